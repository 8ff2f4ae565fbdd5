//! Bringing the agent's executable to a machine that lacks it: one program of the machine's own reads it from its standard
//! input, checks it, and lets it put itself in its place.

use super::super::begun::Begun;
use super::super::builds::Build;
use super::super::lines;
use super::super::piped::{End, PipedStream};
use super::super::remote::{RemoteHome, quoted};
use super::soap::CommandLine;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::protocol::{INCOMING, STREAM_MARK};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use uuid::Uuid;

/// Bytes that are handed over at a time.
const PIECE: usize = 256 * 1024;

/// No piece may take longer: a link that is slower than this carries no release.
const PIECE_LIMIT: Duration = Duration::from_secs(60);

/// How long the new executable may take to put itself in its place.
const INSTALL_LIMIT: Duration = Duration::from_secs(60);

/// What PowerShell is told, on Windows.
const POWERSHELL: &str = include_str!("bring.ps1");

/// An executable on its way.
#[derive(Debug)]
pub(super) struct Load {
    bytes: Vec<u8>,
    name: String,
    earlier: Vec<String>,
    build: ContentHash,
}

impl Load {
    /// Reads the executable. `begun`: of this instrument.
    ///
    /// # Errors
    /// When it cannot be read, or is another one by now.
    pub(super) fn of(build: &Build, home: &RemoteHome, begun: &Begun) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut file = std::fs::File::open(&build.path).cannot(|| format!("read {}", build.path.display()))?;
        file.read_to_end(&mut bytes).cannot(|| format!("read {}", build.path.display()))?;
        if ContentHash::of(&bytes) != build.hash {
            return Err(Error::new(ErrorKind::Integrity, format!("{} was replaced meanwhile", build.path.display()))
                .next("run the command again, with the new one"));
        }
        let suffix = if *home == RemoteHome::Windows { ".exe" } else { "" };
        let name = format!("{INCOMING}{}{suffix}", Uuid::new_v4().simple());
        let earlier = begun.names().clone();
        begun.names().push(name.clone());
        Ok(Self { bytes, name, earlier, build: build.hash })
    }

    /// The program that takes it.
    pub(super) fn receiver(&self, home: &RemoteHome) -> CommandLine {
        match home {
            RemoteHome::Windows => {
                let encoded: Vec<u8> = self.powershell().encode_utf16().flat_map(u16::to_le_bytes).collect();
                CommandLine {
                    program: "powershell.exe".into(),
                    arguments: Some(format!(
                        "-NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand {}",
                        BASE64.encode(encoded)
                    )),
                }
            }
            RemoteHome::Unix { .. } => {
                CommandLine { program: format!("/bin/sh -c {}", quoted(&self.shell(home))), arguments: None }
            }
        }
    }

    fn powershell(&self) -> String {
        let sha256: String = Sha256::digest(&self.bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        POWERSHELL
            .replace("@NAME@", &self.name)
            .replace("@EARLIER@", &self.earlier.join(" "))
            .replace("@SHA256@", &sha256)
            .replace("@BUILD@", &self.build.to_string())
    }

    /// For a Linux machine that stands for an instrument. The executable itself looks at its hash.
    fn shell(&self, home: &RemoteHome) -> String {
        let bin = quoted(&home.file("bin"));
        let install = home.command(&format!("bin/{}", self.name), &format!("install --build {}", self.build));
        let earlier: String = self.earlier.iter().map(|name| format!("rm -f {bin}/{name}; ")).collect();
        let root = home.root().map_or_else(String::new, |root| {
            let root = quoted(root);
            format!("[ -d {root} ] || {{ echo bring: the folder {root} is not there >&2; exit 3; }}; ")
        });
        format!(
            "umask 077; {root}mkdir -p {bin} || exit 4; {earlier}cat > {bin}/{name} && chmod 700 {bin}/{name} && {install}; code=$?; \
             rm -f {bin}/{name}; exit $code",
            name = self.name
        )
    }

    /// Sends it into the receiver's input and hears how it went.
    ///
    /// # Errors
    /// When the connection breaks, or the executable cannot be written or started there.
    pub(super) async fn send(self, mut stream: PipedStream, begun: &Begun) -> Result<()> {
        let started = Instant::now();
        let size = self.bytes.len();
        let broke = |e: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Unreachable, "the connection broke while the agent was being brought").because(e)
        };
        let mut taken = Ok(());
        for piece in self.bytes.chunks(PIECE) {
            taken = timeout(PIECE_LIMIT, stream.write_all(piece)).await.map_err(|_| {
                broke(&format!("{} kB took longer than {PIECE_LIMIT:?}", PIECE / 1000))
                    .next("see how fast the network to the machine is")
            })?;
            if taken.is_err() {
                // What the receiver has said about it comes below.
                break;
            }
        }
        if taken.is_ok() {
            stream.shutdown().await.map_err(|e| broke(&e))?;
        }
        let mut out = Vec::new();
        // How it ended counts, and that is asked for below.
        let _ = timeout(INSTALL_LIMIT, stream.read_to_end(&mut out))
            .await
            .map_err(|_| broke(&format!("the agent did not put itself in its place within {INSTALL_LIMIT:?}")))?;
        let end = stream.end().cloned();
        drop(stream);
        match end {
            Some(End::Closed { said, .. }) => {
                begun.names().retain(|name| *name != self.name && !self.earlier.contains(name));
                tracing::debug!(bytes = size, seconds = started.elapsed().as_secs_f64(), "the agent was brought");
                verdict(&out, said, size)
            }
            Some(End::Lost(why)) => Err(broke(&why)),
            None => Err(broke(&"its end did not come")),
        }
    }
}

fn verdict(out: &[u8], said: Vec<String>, size: usize) -> Result<()> {
    // The exit code is not asked for. The mark is what only the agent says.
    if out.windows(STREAM_MARK.len()).any(|part| part == STREAM_MARK) {
        return Ok(());
    }
    let mut all = lines(out);
    all.extend(said);
    let error = |text: &str| Error::new(ErrorKind::NoAgent, text).with_output(all.clone());
    if all.iter().any(|line| line.starts_with("error: ")) {
        // Its own words: it runs.
        return Err(error("the agent that was brought cannot be at home on that machine").next(
            "put right what it says about its home (the folder .ibexdeploy below `root:`, or C:\\ProgramData\\ibexdeploy)",
        ));
    }
    Err(error("the agent could not be brought to that machine").next(format!(
        "its last words say why: {} MB must be free there, and the account must be able to write; else it may be a wrong \
         architecture, antivirus or AppLocker",
        size.div_ceil(1_000_000)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn load() -> Load {
        Load {
            bytes: b"MZ".to_vec(),
            name: "incoming-new.exe".into(),
            earlier: (0..8).map(|n| format!("incoming-{n:032x}.exe")).collect(),
            build: ContentHash::of(b"MZ"),
        }
    }

    #[test]
    fn powershell_is_told_in_one_command_line() {
        let mut load = load();
        let line = load.receiver(&RemoteHome::Windows);
        let whole = format!("{} {}", line.program, line.arguments.unwrap());
        assert!(whole.len() < 8191, "{} characters are more than cmd.exe takes", whole.len());
        load.earlier.clear();
        assert_snapshot!(load.powershell());
    }

    #[test]
    fn a_shell_is_told_with_its_words_quoted() {
        let home = RemoteHome::Unix { root: "/srv/Tom's box".into() };
        let load = Load { name: "incoming-new".into(), earlier: vec!["incoming-old".into()], ..load() };
        assert_snapshot!(load.shell(&home));
    }
}
