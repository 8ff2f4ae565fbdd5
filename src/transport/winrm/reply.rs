//! What a WinRM service answers.

use super::fault::Fault;
use super::soap::{CommandId, ShellId};
use crate::error::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use uuid::Uuid;

/// An answer to one request, as far as anybody here needs it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// The message that it answers.
    relates_to: String,
    pub(super) shell: Option<ShellId>,
    pub(super) command: Option<CommandId>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// The program has ended.
    pub(super) done: bool,
    /// As Windows shows it: 32 bits with a sign, although some hosts send it without.
    pub(super) exit_code: Option<i32>,
    pub(super) fault: Option<Fault>,
}

/// The element whose text is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    RelatesTo,
    ShellId,
    CommandId,
    Stdout,
    Stderr,
    ExitCode,
    Reason,
    Message,
    Subcode,
    Other,
}

impl Reply {
    /// Reads an envelope.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|e| unreadable(&e))?;
        let mut reader = Reader::from_str(text);
        let mut reply = Self::default();
        let mut open: Vec<(Element, String)> = Vec::new();
        let mut seen_envelope = false;
        loop {
            match reader.read_event().map_err(|e| unreadable(&e))? {
                Event::Start(start) => {
                    seen_envelope |= start.local_name().as_ref() == "Envelope";
                    open.push((reply.begin(&start)?, String::new()));
                }
                Event::Empty(start) => {
                    reply.begin(&start)?;
                }
                Event::Text(text) => add(&mut open, &text.xml10_content()),
                Event::CData(text) => add(&mut open, &text.xml10_content()),
                Event::GeneralRef(name) => add(&mut open, &reference(&name)?),
                Event::End(_) => {
                    if let Some((element, text)) = open.pop() {
                        reply.end(element, &text)?;
                    }
                }
                Event::Eof => break,
                _ => {}
            }
        }
        // Cut off, it may still be well-formed up to there.
        if !seen_envelope || !open.is_empty() {
            return Err(unreadable(&"the envelope is not whole"));
        }
        Ok(reply)
    }

    /// An element begins; says what its text will be.
    fn begin(&mut self, start: &BytesStart<'_>) -> Result<Element> {
        Ok(match start.local_name().as_ref() {
            "RelatesTo" => Element::RelatesTo,
            "ShellId" => Element::ShellId,
            "Selector" if attribute(start, "Name")?.as_deref() == Some("ShellId") => Element::ShellId,
            "CommandId" => Element::CommandId,
            "ExitCode" => Element::ExitCode,
            "Stream" => match attribute(start, "Name")?.as_deref() {
                Some("stdout") => Element::Stdout,
                Some("stderr") => Element::Stderr,
                _ => Element::Other,
            },
            "CommandState" => {
                self.done |= attribute(start, "State")?.is_some_and(|state| state.ends_with("/Done"));
                Element::Other
            }
            "Fault" => {
                self.fault.get_or_insert_default();
                Element::Other
            }
            "WSManFault" => {
                let code = attribute(start, "Code")?.and_then(|code| code.parse::<i64>().ok());
                let fault = self.fault.get_or_insert_default();
                // The inner one, of a provider, says more than the one around it.
                fault.code = code.map(low_32_bits).or(fault.code);
                Element::Other
            }
            "Text" => Element::Reason,
            "Message" => Element::Message,
            "Value" => Element::Subcode,
            _ => Element::Other,
        })
    }

    fn end(&mut self, element: Element, text: &str) -> Result<()> {
        let text = text.trim();
        match element {
            Element::RelatesTo => text.clone_into(&mut self.relates_to),
            Element::ShellId if !text.is_empty() => self.shell = Some(ShellId(text.to_owned())),
            Element::CommandId if !text.is_empty() => self.command = Some(CommandId(text.to_owned())),
            Element::Stdout => decode(text, &mut self.stdout)?,
            Element::Stderr => decode(text, &mut self.stderr)?,
            Element::ExitCode => {
                let code = text.parse::<i64>().map_err(|e| unreadable(&format!("the exit code `{text}`: {e}")))?;
                self.exit_code = Some(low_32_bits(code).cast_signed());
            }
            Element::Reason | Element::Message | Element::Subcode => {
                let Some(fault) = &mut self.fault else { return Ok(()) };
                match element {
                    Element::Reason => text.clone_into(&mut fault.reason),
                    Element::Message if !text.is_empty() => text.clone_into(&mut fault.message),
                    Element::Subcode => text.clone_into(&mut fault.subcode),
                    _ => {}
                }
            }
            Element::ShellId | Element::CommandId | Element::Other => {}
        }
        Ok(())
    }

    /// That it is the answer to this message and not to one before: over one connection answers come in order, so
    /// another name means that something was lost.
    ///
    /// # Errors
    /// When it answers something else.
    pub(super) fn answers(&self, id: Uuid) -> Result<()> {
        let named = self.relates_to.strip_prefix("uuid:").unwrap_or(&self.relates_to);
        // Faults of messages that could not be read name none.
        if named.eq_ignore_ascii_case(&id.to_string()) || (named.is_empty() && self.fault.is_some()) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unreachable, "the WinRM service answered another message than was sent")
            .next("something between this machine and the instrument mixes connections up: a proxy, perhaps"))
    }
}

/// Numbers come with a sign or without.
fn low_32_bits(number: i64) -> u32 {
    (number & 0xffff_ffff) as u32
}

fn decode(text: &str, into: &mut Vec<u8>) -> Result<()> {
    // Long texts may be broken into lines.
    let packed: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    BASE64.decode_vec(packed, into).map_err(|e| unreadable(&e))
}

/// Adds to the text of the innermost element.
fn add(open: &mut [(Element, String)], text: &str) {
    if let Some((_, into)) = open.last_mut() {
        into.push_str(text);
    }
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Result<Option<String>> {
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| unreadable(&e))?;
        if attribute.key.local_name().as_ref() == name {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| unreadable(&e))?;
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

fn reference(name: &quick_xml::events::BytesRef<'_>) -> Result<String> {
    if let Some(sign) = name.resolve_char_ref().map_err(|e| unreadable(&e))? {
        return Ok(sign.to_string());
    }
    let name = name.xml10_content();
    let text = quick_xml::escape::resolve_predefined_entity(&name);
    text.map(str::to_owned).ok_or_else(|| unreadable(&format!("the entity `{name}`")))
}

fn unreadable(e: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unreachable, "the answer of the WinRM service cannot be read")
        .because(e)
        .next("see that `port` is that of a WinRM service, and what lies between it and this machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(body: &str) -> String {
        format!(
            r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:rsp="urn:r"><s:Header>
            <a:RelatesTo>uuid:00000000-0000-0000-0000-000000000000</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"#
        )
    }

    #[test]
    fn streams_are_put_together_and_the_end_is_seen() {
        let text = envelope(
            r#"<rsp:ReceiveResponse><rsp:Stream Name="stdout" CommandId="C">AP
8=</rsp:Stream><rsp:Stream Name="stderr" CommandId="C">QQ==</rsp:Stream><rsp:Stream Name="stdout">Qg==</rsp:Stream>
            <rsp:Stream Name="stderr" End="true"/><rsp:CommandState State="http://x/CommandState/Done"><rsp:ExitCode>3221225786</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>"#,
        );
        let reply = Reply::read(text.as_bytes()).unwrap();
        assert_eq!((reply.stdout.as_slice(), reply.stderr.as_slice()), (&b"\x00\xffB"[..], &b"A"[..]));
        assert!(reply.done);
        assert_eq!(reply.exit_code, Some(-1_073_741_510), "some hosts send it without a sign");
        reply.answers(Uuid::nil()).unwrap();
        assert!(reply.answers(Uuid::max()).is_err());
    }

    #[test]
    fn a_fault_says_what_its_innermost_part_says() {
        let text = envelope(
            r#"<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:InternalError</s:Value></s:Subcode></s:Code>
            <s:Reason><s:Text xml:lang="en-US">The reason.</s:Text></s:Reason><s:Detail><f:WSManFault Code="-2144108103" Machine="m">
            <f:Message><f:ProviderFault><f:WSManFault Code="2"><f:Message>Not &lt;found&gt;.</f:Message></f:WSManFault>
            </f:ProviderFault></f:Message></f:WSManFault></s:Detail></s:Fault>"#,
        );
        let fault = Reply::read(text.as_bytes()).unwrap().fault.unwrap();
        assert_eq!((fault.code, fault.message.as_str()), (Some(2), "Not <found>."));
        assert_eq!((fault.subcode.as_str(), fault.reason.as_str()), ("w:InternalError", "The reason."));
    }

    #[test]
    fn what_is_no_envelope_or_half_of_one_is_an_error() {
        let whole = envelope("<rsp:SendResponse/>");
        for text in ["", "<html>", "not XML at all", &whole[..whole.len() - 4], &whole.replace("</s:Body>", "</s:Head>")] {
            assert!(Reply::read(text.as_bytes()).is_err(), "{text}");
        }
        for stream in ["A", "!!!!"] {
            let text = envelope(&format!(r#"<rsp:Stream Name="stdout">{stream}</rsp:Stream>"#));
            assert!(Reply::read(text.as_bytes()).is_err(), "{stream}");
        }
    }
}
