//! What PowerShell writes on standard error when no console is there: XML (CLIXML) instead of text.

use quick_xml::events::Event;
use quick_xml::reader::Reader;

/// How such output begins.
const MARK: &str = "#< CLIXML";

/// Standard error as a person would have seen it: errors and warnings, without progress. Anything that is not CLIXML
/// stays as it is; of what is cut off, the whole parts are read.
pub(super) fn plain(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let Some(at) = text.find(MARK) else { return text.into_owned() };
    let (before, xml) = (&text[..at], &text[at + MARK.len()..]);
    let mut plain = before.to_owned();
    let mut reader = Reader::from_str(xml.trim_start());
    let mut message: Option<String> = None;
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) if start.local_name().as_ref() == "S" => {
                let stream = start.try_get_attribute("S").ok().flatten();
                message = stream.map(|_| String::new());
            }
            Ok(Event::Text(part)) => {
                if let Some(message) = &mut message {
                    message.push_str(&part.xml10_content());
                }
            }
            Ok(Event::GeneralRef(name)) => {
                if let Some(message) = &mut message {
                    let known = quick_xml::escape::resolve_predefined_entity(&name.xml10_content());
                    message.push_str(known.unwrap_or("?"));
                }
            }
            Ok(Event::End(end)) if end.local_name().as_ref() == "S" => {
                plain.push_str(&unescaped(&message.take().unwrap_or_default()));
            }
            Ok(Event::Eof) | Err(_) => return plain,
            Ok(_) => {}
        }
    }
}

/// Signs that XML cannot hold are written as `_x000D_`.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("_x") {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let sign = from.get(2..6).filter(|_| from.as_bytes().get(6) == Some(&b'_'));
        match sign.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32) {
            Some(sign) => {
                plain.push(sign);
                rest = &from[7..];
            }
            None => {
                plain.push_str("_x");
                rest = &from[2..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "#< CLIXML\r\n<Objs Version=\"1.1.0.1\" xmlns=\"http://schemas.microsoft.com/powershell/2004/04\">\
        <Obj S=\"progress\" RefId=\"0\"><MS><PR N=\"Record\"><AV>Preparing modules for first use.</AV></PR></MS></Obj>\
        <S S=\"Error\">bring: Access to the path &lt;C:\\a_x&gt; is denied._x000D__x000A_</S><S S=\"Error\">At line:1_x000D__x000A_</S></Objs>";

    #[test]
    fn errors_are_text_and_progress_is_left_out() {
        assert_eq!(plain(SAID.as_bytes()), "bring: Access to the path <C:\\a_x> is denied.\r\nAt line:1\r\n");
    }

    #[test]
    fn what_is_cut_off_is_read_as_far_as_it_goes() {
        let cut = SAID.find("At line").unwrap();
        assert_eq!(plain(&SAID.as_bytes()[..cut]), "bring: Access to the path <C:\\a_x> is denied.\r\n");
        for end in 0..SAID.len() {
            plain(&SAID.as_bytes()[..end]);
        }
    }

    #[test]
    fn ordinary_text_stays() {
        assert_eq!(plain(b"sh: not found\n"), "sh: not found\n");
    }
}
