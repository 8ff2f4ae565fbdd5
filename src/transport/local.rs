//! The transport to a sandbox on this machine, or to the machine itself: the same executable as a child, its standard streams as the link.

use super::mark::{Beginning, find_mark};
use super::{AgentStream, Opened};
use crate::error::{Error, ErrorKind, IoContext, Result};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;

/// Lines of the child's standard error that are kept for error messages.
const TAIL: usize = 20;

/// How long a child may take to end once its standard output is closed.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Starts `ibexdeploy agent attach`, for a sandbox with `--root DIR`.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// Another executable than this one, for tests.
    pub program: Option<PathBuf>,
    /// Environment variables of this process that are not for the agent: they hold secrets.
    pub hidden: Vec<String>,
}

impl Local {
    pub(super) async fn open(&self, root: Option<&Path>) -> Result<Opened> {
        let mut stream = self.start(root)?;
        match find_mark(&mut stream).await {
            Ok(Beginning::Marked) => Ok(Opened::Stream(stream)),
            Ok(Beginning::Ended(_)) => Err(Error::new(ErrorKind::Unreachable, "the agent ended before it answered")),
            Err(e) => Err(Error::new(ErrorKind::Unreachable, "the agent does not answer").because(e)),
        }
    }

    fn start(&self, root: Option<&Path>) -> Result<AgentStream> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().cannot(|| "find this executable")?,
        };
        let mut command = Command::new(&program);
        for variable in &self.hidden {
            command.env_remove(variable);
        }
        command.args(["agent", "attach"]).kill_on_drop(true);
        if let Some(root) = root {
            command.arg("--root").arg(root);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        apart(&mut command);
        let mut child = command.spawn().cannot(|| format!("start the agent {}", program.display()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err(Error::internal("the agent's streams are not there"));
        };
        let (closing, closed) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            let verdict = reap(child, stderr, closed).await;
            // Nobody listens any more when the link was dropped first.
            let _ = end.send(verdict);
        });
        Ok(Box::new(LocalStream { stdin: Some(stdin), stdout, closing: Some(closing), ended: Some(ended) }))
    }
}

/// Keeps the child out of the terminal's reach: a Ctrl-C is for the controller, which stops by way of the link.
fn apart(command: &mut Command) {
    #[cfg(unix)]
    command.process_group(0);
    #[cfg(windows)]
    command.creation_flags(CREATE_NO_WINDOW);
}

/// A console of its own, that nobody sees: no Ctrl-C, no Ctrl-Break and no closing of the window reaches it.
#[cfg(windows)]
const CREATE_NO_WINDOW: u32 = 0x0800_0000;

/// Waits for the child's end, reading what it says on standard error; kills it when it stays although the link is closed.
async fn reap(mut child: Child, stderr: ChildStderr, closed: oneshot::Receiver<()>) -> Option<String> {
    let tail = tokio::spawn(read_tail(stderr));
    let status = tokio::select! {
        status = child.wait() => status,
        _ = closed => match tokio::time::timeout(ENDS_WITHIN, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                // It may have ended just now; either way there is nothing more to do about it.
                let _ = child.kill().await;
                child.wait().await
            }
        },
    };
    // A worker that holds the child's standard error open must not hold this up.
    let lines = tokio::time::timeout(ENDS_WITHIN, tail).await.ok().and_then(std::result::Result::ok).unwrap_or_default();
    verdict(status, &lines)
}

async fn read_tail(stderr: ChildStderr) -> Vec<String> {
    let mut lines = BufReader::new(stderr).lines();
    let mut tail = VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
    tail.into()
}

/// What to say about the end of the child, or nothing when it ended well.
fn verdict(status: io::Result<ExitStatus>, lines: &[String]) -> Option<String> {
    let ended = match status {
        Ok(status) if status.success() => return None,
        Ok(status) => format!("`agent attach` ended with {status}"),
        Err(e) => format!("`agent attach` was lost: {e}"),
    };
    if lines.is_empty() { Some(ended) } else { Some(format!("{ended}: {}", lines.join(" | "))) }
}

/// The child's standard input and output as one stream; its end carries what it said on standard error.
struct LocalStream {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Tells the reaper that the link is closed; dropping it says the same.
    closing: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<Option<String>>>,
}

impl AsyncRead for LocalStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ended.is_some() {
            ready!(Pin::new(&mut self.stdout).poll_read(cx, buffer))?;
        }
        if buffer.filled().len() > before || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.closing = None;
        let Some(ended) = &mut self.ended else { return Poll::Ready(Ok(())) };
        let verdict = ready!(Pin::new(ended).poll(cx)).ok().flatten();
        self.ended = None;
        Poll::Ready(verdict.map_or(Ok(()), |text| Err(io::Error::new(io::ErrorKind::BrokenPipe, text))))
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the pipe is what the child sees as the end.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn script(folder: &Path, text: &str) -> io::Result<Local> {
        let path = folder.join("agent");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Local { program: Some(path), hidden: Vec::new() })
    }

    #[tokio::test]
    async fn the_streams_are_the_link() {
        let folder = tempfile::tempdir().unwrap();
        let mut stream = script(folder.path(), "echo \"$1 $2 $3 $4\"; cat").unwrap().start(Some(Path::new("/r"))).unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "agent attach --root /r\nhello\n");
    }

    #[tokio::test]
    async fn an_interrupt_on_the_terminal_does_not_reach_the_child() {
        let folder = tempfile::tempdir().unwrap();
        let mut stream = script(folder.path(), "ps -o pgid= -p $$; echo $$").unwrap().start(Some(Path::new("/r"))).unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words.len(), 2, "{text}");
        assert_eq!(words[0], words[1], "it leads a process group of its own");
    }

    #[tokio::test]
    async fn a_failed_child_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let mut stream = script(folder.path(), "echo no such root >&2; exit 3").unwrap().start(Some(Path::new("/r"))).unwrap();
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err().to_string();
        assert!(error.contains("no such root") && error.contains('3'), "{error}");
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "after the error the stream is at its end");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let local = Local { program: Some("/nowhere/ibexdeploy".into()), hidden: Vec::new() };
        let error = local.start(Some(Path::new("/r"))).err().unwrap().to_string();
        assert!(error.contains("/nowhere/ibexdeploy"), "{error}");
    }
}
