//! What is said to a WinRM service: SOAP envelopes of WS-Management and its shells (MS-WSMV).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quick_xml::escape::escape;
use std::fmt::Write as _;
use std::time::Duration;
use uuid::Uuid;

const ADDRESSING: &str = "http://schemas.xmlsoap.org/ws/2004/08/addressing";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";
const SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
const COMMAND_SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd";

/// The largest answer that we take, which is what a service sends at most unless its `MaxEnvelopeSizekb` says more.
pub(super) const LARGEST_ANSWER: usize = 500 * 1024;

/// Without use for this long, the service takes a shell away by itself. It allows nothing below a minute.
const IDLE: Duration = Duration::from_secs(90);

/// Output in UTF-8, whatever the machine's own code page is.
const CODE_PAGE_UTF8: &str = "65001";

/// Names what belongs together: every message of one link bears the same, whatever connection it goes over. A shell
/// listens to the session that made it only.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionId(Uuid);

impl SessionId {
    pub(super) fn fresh() -> Self {
        Self(Uuid::new_v4())
    }
}

/// A shell on the machine, as every message about it names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShellId(pub(super) String);

impl ShellId {
    pub(super) fn fresh() -> Self {
        Self(fresh_name())
    }
}

/// A command in a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandId(pub(super) String);

impl CommandId {
    pub(super) fn fresh() -> Self {
        Self(fresh_name())
    }
}

/// As Windows writes them.
fn fresh_name() -> String {
    Uuid::new_v4().to_string().to_uppercase()
}

/// A program and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) program: String,
    pub(super) arguments: Option<String>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Request<'a> {
    /// Make a shell, with a name of our own: should the answer be lost, it can be closed all the same.
    Create { shell: &'a ShellId },
    /// Start a program in it, without `cmd.exe` between.
    Command { shell: &'a ShellId, command: &'a CommandId, line: &'a CommandLine },
    /// Bytes for the program's standard input; `end` closes it.
    Send { shell: &'a ShellId, command: &'a CommandId, bytes: &'a [u8], end: bool },
    /// What the program has written; the answer waits for it up to the operation's limit.
    Receive { shell: &'a ShellId, command: &'a CommandId },
    /// End the program, and forget it.
    Terminate { shell: &'a ShellId, command: &'a CommandId },
    /// End the shell with all that runs in it.
    Delete { shell: &'a ShellId },
}

impl Request<'_> {
    /// What it does, for errors: continues "cannot".
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Create { .. } => "open a shell",
            Self::Command { .. } => "start a program",
            Self::Send { .. } => "send to the program",
            Self::Receive { .. } => "read from the program",
            Self::Terminate { .. } => "end the program",
            Self::Delete { .. } => "close the shell",
        }
    }

    fn action(&self) -> String {
        match self {
            Self::Create { .. } => format!("{TRANSFER}/Create"),
            Self::Command { .. } => format!("{SHELL}/Command"),
            Self::Send { .. } => format!("{SHELL}/Send"),
            Self::Receive { .. } => format!("{SHELL}/Receive"),
            Self::Terminate { .. } => format!("{SHELL}/Signal"),
            Self::Delete { .. } => format!("{TRANSFER}/Delete"),
        }
    }

    fn shell(&self) -> Option<&ShellId> {
        match self {
            Self::Create { .. } => None,
            Self::Command { shell, .. }
            | Self::Send { shell, .. }
            | Self::Receive { shell, .. }
            | Self::Terminate { shell, .. }
            | Self::Delete { shell } => Some(shell),
        }
    }

    fn options(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Create { .. } => &[("WINRS_NOPROFILE", "TRUE"), ("WINRS_CODEPAGE", CODE_PAGE_UTF8)],
            // Standard input is a pipe that carries any bytes, and no console's.
            Self::Command { .. } => &[("WINRS_CONSOLEMODE_STDIN", "FALSE"), ("WINRS_SKIP_CMD_SHELL", "TRUE")],
            _ => &[],
        }
    }

    fn body(&self) -> String {
        match self {
            Self::Create { shell } => format!(
                "<rsp:Shell ShellId=\"{}\"><rsp:IdleTimeOut>{}</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams>\
                 <rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>",
                escape(&shell.0),
                duration(IDLE)
            ),
            Self::Command { command, line, .. } => format!(
                r#"<rsp:CommandLine CommandId="{}"><rsp:Command>{}</rsp:Command>{}</rsp:CommandLine>"#,
                escape(&command.0),
                escape(&line.program),
                line.arguments
                    .as_ref()
                    .map_or_else(String::new, |text| format!("<rsp:Arguments>{}</rsp:Arguments>", escape(text)))
            ),
            Self::Send { command, bytes, end, .. } => format!(
                r#"<rsp:Send><rsp:Stream Name="stdin" CommandId="{}"{}>{}</rsp:Stream></rsp:Send>"#,
                escape(&command.0),
                if *end { r#" End="true""# } else { "" },
                BASE64.encode(bytes)
            ),
            Self::Receive { command, .. } => format!(
                r#"<rsp:Receive><rsp:DesiredStream CommandId="{}">stdout stderr</rsp:DesiredStream></rsp:Receive>"#,
                escape(&command.0)
            ),
            Self::Terminate { command, .. } => format!(
                r#"<rsp:Signal CommandId="{}"><rsp:Code>{SHELL}/signal/terminate</rsp:Code></rsp:Signal>"#,
                escape(&command.0)
            ),
            Self::Delete { .. } => String::new(),
        }
    }
}

/// A message, and the name by which its answer refers to it.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) id: Uuid,
    pub(super) text: String,
}

impl Envelope {
    /// `to`: the service's address. `limit`: how long the service may take.
    pub(super) fn new(request: &Request<'_>, to: &str, session: SessionId, limit: Duration) -> Self {
        let id = Uuid::new_v4();
        let mut text = format!(
            r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="{ADDRESSING}" xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd" xmlns:rsp="{SHELL}"><s:Header><a:To>{}</a:To><w:ResourceURI s:mustUnderstand="true">{COMMAND_SHELL}</w:ResourceURI><a:ReplyTo><a:Address s:mustUnderstand="true">{ADDRESSING}/role/anonymous</a:Address></a:ReplyTo><a:Action s:mustUnderstand="true">{}</a:Action><w:MaxEnvelopeSize s:mustUnderstand="true">{LARGEST_ANSWER}</w:MaxEnvelopeSize><a:MessageID>uuid:{id}</a:MessageID><w:Locale xml:lang="en-US" s:mustUnderstand="false"/><p:DataLocale xml:lang="en-US" s:mustUnderstand="false"/><p:SessionId s:mustUnderstand="false">uuid:{}</p:SessionId><w:OperationTimeout>{}</w:OperationTimeout>"#,
            escape(to),
            request.action(),
            session.0,
            duration(limit)
        );
        if let Some(shell) = request.shell() {
            // Writing to a string cannot fail.
            let _ =
                write!(text, r#"<w:SelectorSet><w:Selector Name="ShellId">{}</w:Selector></w:SelectorSet>"#, escape(&shell.0));
        }
        if !request.options().is_empty() {
            text.push_str(r#"<w:OptionSet s:mustUnderstand="true">"#);
            for (name, value) in request.options() {
                let _ = write!(text, r#"<w:Option Name="{name}">{value}</w:Option>"#);
            }
            text.push_str("</w:OptionSet>");
        }
        let _ = write!(text, "</s:Header><s:Body>{}</s:Body></s:Envelope>", request.body());
        Self { id, text }
    }
}

/// As XML writes a time.
fn duration(time: Duration) -> String {
    format!("PT{:.3}S", time.as_secs_f64())
}

/// How many bytes go into one message of at most `envelope` bytes: they grow by a third in base64, and the rest of the
/// message and its seal need room as well.
pub(super) fn bytes_in(envelope: usize) -> usize {
    envelope.saturating_sub(4 * 1024) / 4 * 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn text(request: &Request<'_>) -> String {
        let envelope = Envelope::new(request, "http://ndxloq:5985/wsman", SessionId(Uuid::nil()), Duration::from_secs(20));
        envelope.text.replace(&envelope.id.to_string(), "MESSAGE").replace("><", ">\n<")
    }

    #[test]
    fn a_shell_is_made_with_utf_8_and_a_short_life() {
        let text = text(&Request::Create { shell: &ShellId("S".into()) });
        assert!(text.contains(CODE_PAGE_UTF8) && text.contains("PT90.000S"), "{text}");
        assert_snapshot!(text);
    }

    #[test]
    fn a_command_goes_without_cmd_and_its_signs_are_escaped() {
        let (shell, command) = (ShellId("S<1>".into()), CommandId("C".into()));
        let line = CommandLine { program: r"C:\a.exe".into(), arguments: Some(r#""b" & <c>"#.into()) };
        assert_snapshot!(text(&Request::Command { shell: &shell, command: &command, line: &line }));
    }

    #[test]
    fn input_is_base64_and_may_end() {
        let (shell, command) = (ShellId("S".into()), CommandId("C".into()));
        let sent = text(&Request::Send { shell: &shell, command: &command, bytes: b"\x00\xff", end: true });
        assert!(sent.contains(r#"CommandId="C" End="true">AP8=</rsp:Stream>"#), "{sent}");
    }

    #[test]
    fn what_goes_into_a_message_fits() {
        let (shell, command) = (ShellId("S".repeat(36)), CommandId("C".repeat(36)));
        for limit in [8 * 1024, 150 * 1024, 500 * 1024] {
            let bytes = vec![0xff; bytes_in(limit)];
            let sent = text(&Request::Send { shell: &shell, command: &command, bytes: &bytes, end: true });
            assert!(sent.len() + 512 < limit && sent.len() + 4096 > limit, "{} of {limit}", sent.len());
        }
    }
}
