//! The operator's own ssh settings: `~/.ssh/config`.

use crate::error::{Error, IoContext, Result};
use ssh2_config::{HostParams, ParseRule, SshConfig};
use std::collections::HashMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// What the operator's settings say about one host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HostSettings {
    pub(super) host_name: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) identity_files: Vec<PathBuf>,
    pub(super) proxy_jump: Option<String>,
    pub(super) known_hosts: Vec<PathBuf>,
    /// The name under which its key is known.
    pub(super) host_key_alias: Option<String>,
    /// The socket of the SSH agent.
    pub(super) agent: Option<PathBuf>,
}

/// The settings file, read once.
#[derive(Debug, Default)]
pub(super) struct OperatorConfig {
    config: Option<SshConfig>,
    home: Option<PathBuf>,
}

impl OperatorConfig {
    /// Reads the file of whoever runs this; none is no error.
    ///
    /// # Errors
    /// When it is there and cannot be read or understood.
    pub(super) fn load() -> Result<Self> {
        let Some(home) = std::env::home_dir() else { return Ok(Self::default()) };
        Self::of_home(&home)
    }

    fn of_home(home: &Path) -> Result<Self> {
        let path = home.join(".ssh").join("config");
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { config: None, home: Some(home.to_owned()) });
            }
            other => other.cannot(|| format!("read {}", path.display()))?,
        };
        let rules = ParseRule::ALLOW_UNKNOWN_FIELDS | ParseRule::ALLOW_UNSUPPORTED_FIELDS;
        let config = SshConfig::default().home_dir(home).parse(&mut BufReader::new(file), rules).map_err(|e| {
            Error::bad_input(format!("the ssh settings in {} cannot be read", path.display()))
                .because(e)
                .next("`ssh -G HOST` says what OpenSSH thinks of them")
        })?;
        Ok(Self { config: Some(config), home: Some(home.to_owned()) })
    }

    /// Where the operator's keys and known hosts lie.
    pub(super) fn ssh_folder(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(".ssh"))
    }

    /// What it says about a host, by the name that the operator would type.
    pub(super) fn about(&self, host: &str) -> HostSettings {
        let Some(config) = &self.config else { return HostSettings::default() };
        let params = config.query(host);
        let other = |name: &str| unsupported(&params, name);
        let user = params.user.clone();
        let expand = |text: &str| self.expand(text, host, user.as_deref());
        HostSettings {
            host_name: params.host_name.as_deref().map(expand),
            port: params.port,
            identity_files: params.identity_file.iter().flatten().map(|p| PathBuf::from(expand(&p.to_string_lossy()))).collect(),
            proxy_jump: params.proxy_jump.as_ref().map(|jumps| jumps.join(",")),
            known_hosts: other("userknownhostsfile").iter().map(|p| PathBuf::from(expand(p))).collect(),
            host_key_alias: other("hostkeyalias").first().cloned(),
            agent: other("identityagent").first().filter(|a| *a != "SSH_AUTH_SOCK" && *a != "none").map(|a| expand(a).into()),
            user: params.user,
        }
    }

    /// Replaces `~` and the tokens that are in common use.
    fn expand(&self, text: &str, host: &str, user: Option<&str>) -> String {
        let home = self.home.as_ref().map(|h| h.display().to_string()).unwrap_or_default();
        let below = text.strip_prefix("~/").or_else(|| text.strip_prefix("~\\").filter(|_| cfg!(windows)));
        let text = match below {
            Some(below) => format!("{home}{}{below}", std::path::MAIN_SEPARATOR),
            None => text.to_owned(),
        };
        text.replace("%d", &home).replace("%h", host).replace("%n", host).replace("%r", user.unwrap_or_default())
    }
}

/// The values of a setting that the parser keeps without a field of its own.
fn unsupported(params: &HostParams, name: &str) -> Vec<String> {
    let find = |fields: &HashMap<String, Vec<String>>| {
        fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, values)| values.clone())
    };
    find(&params.unsupported_fields).or_else(|| find(&params.ignored_fields)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> OperatorConfig {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/config"), text).unwrap();
        let config = OperatorConfig::of_home(home.path()).unwrap();
        OperatorConfig { home: Some("/home/ann".into()), ..config }
    }

    #[test]
    fn the_usual_keys_are_read_the_first_value_wins_and_tokens_are_replaced() {
        let config =
            of("Host ndxzoom\n  User other\n  Port 2222\nHost ndx*\n  HostName %h.isis.cclrc.ac.uk\n  User gamekeeper\n  \
                         IdentityFile /keys/%h\n  ProxyJump ann@gate:2200,inner\n  UserKnownHostsFile ~/.ssh/ndx /etc/ndx\n  \
                         HostKeyAlias zoom\n  SomethingNew yes\n");
        let zoom = config.about("ndxzoom");
        assert_eq!(zoom.user.as_deref(), Some("other"));
        assert_eq!(zoom.port, Some(2222));
        assert_eq!(zoom.host_name.as_deref(), Some("ndxzoom.isis.cclrc.ac.uk"));
        assert_eq!(zoom.identity_files, [PathBuf::from("/keys/ndxzoom")]);
        assert_eq!(zoom.proxy_jump.as_deref(), Some("ann@gate:2200,inner"));
        assert_eq!(zoom.known_hosts, [PathBuf::from("/home/ann/.ssh/ndx"), PathBuf::from("/etc/ndx")]);
        assert_eq!(zoom.host_key_alias.as_deref(), Some("zoom"));
        assert_eq!(config.about("elsewhere"), HostSettings::default());
    }

    #[test]
    fn without_a_file_nothing_is_said() {
        let home = tempfile::tempdir().unwrap();
        let config = OperatorConfig::of_home(home.path()).unwrap();
        assert_eq!(config.about("ndxzoom"), HostSettings::default());
        assert_eq!(config.ssh_folder(), Some(home.path().join(".ssh")));
    }
}
