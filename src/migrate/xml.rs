//! XML as text with the places of its elements: what is not changed stays byte for byte.

use crate::error::{Error, Result};
use crate::text::Text;
use crate::yaml::position_at;
use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesStart, Event};
use std::borrow::Cow;
use std::ops::Range;

/// A well-formed document.
#[derive(Debug, Clone)]
pub(super) struct Xml {
    text: Text,
    elements: Vec<Element>,
    /// Those of all elements, one element after the other.
    attributes: Vec<Attribute>,
}

/// An element's number in the order of start tags.
pub(super) type Id = usize;

#[derive(Debug, Clone)]
struct Element {
    parent: Option<Id>,
    /// Without a prefix.
    name: Range<usize>,
    /// From the start of its start tag to the end of its end tag.
    span: Range<usize>,
    /// Between the tags; nothing when both are one (`<a/>`).
    content: Option<Range<usize>>,
    holds: Holds,
    /// Which of the document's attributes are its own.
    attributes: Range<usize>,
}

#[derive(Debug, Clone)]
struct Attribute {
    name: Range<usize>,
    value: Range<usize>,
}

/// What stands between the tags.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// Characters and nothing else.
    Text(Range<usize>),
    /// One section of raw characters, with nothing but white space around it.
    Raw(Range<usize>),
    Other,
}

/// A change of a document: other text in the place of a range of bytes.
pub(super) type Edit = (Range<usize>, String);

impl Xml {
    /// Reads a document; `file` is what errors call it.
    ///
    /// # Errors
    /// When it is not well-formed: with file, line and column.
    pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Self> {
        let text = if declares_bytes(bytes) { Text::read_latin1(bytes) } else { Text::read(bytes)? };
        let mut parser = Parser::new(file, text.as_str());
        parser.run()?;
        let (elements, attributes) = (parser.elements, parser.attributes);
        Ok(Self { text, elements, attributes })
    }

    /// The elements of a name, in the order of the document.
    pub(super) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Id> + 'a {
        (0..self.elements.len()).filter(move |id| self.name(*id) == name)
    }

    /// The elements of a name inside another, at whatever depth.
    pub(super) fn inside<'a>(&'a self, id: Id, name: &'a str) -> impl Iterator<Item = Id> + 'a {
        let end = self.elements[id].span.end;
        (id + 1..self.elements.len())
            .take_while(move |i| self.elements[*i].span.start < end)
            .filter(move |i| self.name(*i) == name)
    }

    fn part(&self, range: &Range<usize>) -> &str {
        &self.text.as_str()[range.clone()]
    }

    fn children(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        let end = self.elements[id].span.end;
        (id + 1..self.elements.len())
            .take_while(move |i| self.elements[*i].span.start < end)
            .filter(move |i| self.elements[*i].parent == Some(id))
    }

    pub(super) fn parent(&self, id: Id) -> Option<Id> {
        self.elements[id].parent
    }

    pub(super) fn name(&self, id: Id) -> &str {
        self.part(&self.elements[id].name)
    }

    /// The outermost element.
    pub(super) fn root(&self) -> Id {
        0
    }

    /// An attribute's value.
    pub(super) fn attribute(&self, id: Id, name: &str) -> Option<Cow<'_, str>> {
        let value = self.value_of(id, name)?;
        unescape(self.part(&value)).ok()
    }

    fn value_of(&self, id: Id, name: &str) -> Option<Range<usize>> {
        let found = self.attributes[self.elements[id].attributes.clone()].iter().find(|a| local(self.part(&a.name)) == name);
        found.map(|a| a.value.clone())
    }

    /// The characters of an element that has nothing else in it.
    pub(super) fn value(&self, id: Id) -> Option<Cow<'_, str>> {
        match &self.elements[id].holds {
            Holds::Text(range) => unescape(self.part(range)).ok(),
            Holds::Raw(range) => Some(Cow::Borrowed(self.part(range))),
            Holds::Nothing => Some(Cow::Borrowed("")),
            Holds::Other => None,
        }
    }

    /// Another value for an attribute that is there.
    pub(super) fn set_attribute(&self, id: Id, name: &str, value: &str) -> Option<Edit> {
        Some((self.value_of(id, name)?, self.escaped(value)))
    }

    /// Other characters for an element that [`Xml::value`] gave some of.
    pub(super) fn set_value(&self, id: Id, value: &str) -> Option<Edit> {
        match &self.elements[id].holds {
            Holds::Text(range) => Some((range.clone(), self.escaped(value))),
            // Raw characters end where `]]>` stands; what holds that is written with escapes.
            Holds::Raw(range) if !value.contains("]]>") => Some((range.clone(), value.to_owned())),
            Holds::Raw(_) => Some((self.elements[id].content.clone()?, self.escaped(value))),
            Holds::Nothing | Holds::Other => None,
        }
    }

    /// Takes an element out, with the line it stands on when nothing else does.
    pub(super) fn remove(&self, id: Id) -> Edit {
        let Range { mut start, end } = self.elements[id].span.clone();
        let before = &self.text.as_str()[..start];
        let line = before.trim_end_matches([' ', '\t']);
        let rest = &self.text.as_str()[end..];
        if line.ends_with('\n') && rest.trim_start_matches([' ', '\t']).starts_with(['\r', '\n']) {
            let line = line.strip_suffix('\n').unwrap_or(line);
            start = line.strip_suffix('\r').unwrap_or(line).len();
        }
        (start..end, String::new())
    }

    /// Puts an element in as the last one inside another, laid out as its neighbours are.
    pub(super) fn append(&self, id: Id, markup: &str) -> Edit {
        if let Some(last) = self.children(id).last() {
            return self.after(last, markup);
        }
        let element = &self.elements[id];
        let outer = self.lead(id);
        let inner = outer.as_ref().map_or(String::new(), |lead| format!("{lead}{}", self.unit(id)));
        let outer = outer.unwrap_or_default();
        match &element.content {
            Some(content) if self.part(content).trim().is_empty() => (content.clone(), format!("{inner}{markup}{outer}")),
            Some(content) => (content.end..content.end, markup.to_owned()),
            None => {
                let tag = self.part(&element.span).trim_end_matches("/>").trim_end().to_owned();
                let name = tag[1..].split(char::is_whitespace).next().unwrap_or_default().to_owned();
                (element.span.clone(), format!("{tag}>{inner}{markup}{outer}</{name}>"))
            }
        }
    }

    /// Puts an element behind another, laid out as that one is.
    pub(super) fn after(&self, id: Id, markup: &str) -> Edit {
        let end = self.elements[id].span.end;
        (end..end, format!("{}{markup}", self.lead(id).unwrap_or_default()))
    }

    /// The line break and the white space that an element begins with, when it begins a line.
    fn lead(&self, id: Id) -> Option<String> {
        let before = &self.text.as_str()[..self.elements[id].span.start];
        let line = before.trim_end_matches([' ', '\t']);
        let indent = &before[line.len()..];
        if self.elements[id].parent.is_none() {
            // A document of several lines is one whose outermost element holds line breaks.
            return self.part(&self.elements[id].span).contains('\n').then(|| self.text.line_end().to_owned());
        }
        line.ends_with('\n').then(|| {
            let ending = if line.ends_with("\r\n") { "\r\n" } else { "\n" };
            format!("{ending}{indent}")
        })
    }

    /// How much further in an element stands than the one around it.
    fn unit(&self, id: Id) -> String {
        let indent = |id: Id| self.lead(id).map(|lead| lead.trim_start_matches(['\r', '\n']).to_owned());
        let own = indent(id).unwrap_or_default();
        let outer = self.parent(id).and_then(indent).unwrap_or_default();
        match own.strip_prefix(&outer) {
            Some(unit) if !unit.is_empty() => unit.to_owned(),
            _ => "    ".to_owned(),
        }
    }

    /// Text as it stands between tags and in attributes of this document.
    pub(super) fn escaped(&self, text: &str) -> String {
        let mut out = String::new();
        for c in escape(text).chars() {
            if self.text.can_hold(c) {
                out.push(c);
            } else {
                out.push_str(&format!("&#x{:X};", u32::from(c)));
            }
        }
        out
    }

    /// The bytes of the document with the edits, which must not overlap.
    ///
    /// # Errors
    /// When the document's encoding has not all characters.
    pub(super) fn with(&self, mut edits: Vec<Edit>) -> Result<Vec<u8>> {
        edits.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(self.text.as_str().len());
        let mut from = 0;
        for (range, new) in edits {
            text.push_str(self.text.as_str().get(from..range.start).unwrap_or_default());
            text.push_str(&new);
            from = range.end;
        }
        text.push_str(&self.text.as_str()[from..]);
        self.text.with(text).map(|text| text.bytes())
    }
}

/// True when the declaration names an encoding in which a byte is a character.
fn declares_bytes(bytes: &[u8]) -> bool {
    if !bytes.starts_with(b"<?xml") {
        return false;
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).to_lowercase();
    let declaration = head.split("?>").next().unwrap_or_default();
    let Some((_, encoding)) = declaration.split_once("encoding") else { return false };
    ["iso-8859", "windows-125", "latin", "cp125"].iter().any(|name| encoding.contains(name))
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

struct Parser<'a> {
    file: &'a str,
    text: &'a str,
    elements: Vec<Element>,
    attributes: Vec<Attribute>,
    open: Vec<Id>,
}

impl<'a> Parser<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, elements: Vec::new(), attributes: Vec::new(), open: Vec::new() }
    }

    fn run(&mut self) -> Result<()> {
        let mut reader = Reader::from_str(self.text);
        reader.config_mut().check_comments = true;
        loop {
            let from = position(reader.buffer_position());
            let event = reader.read_event().map_err(|e| self.wrong(position(reader.error_position()), e))?;
            let span = from..position(reader.buffer_position());
            match event {
                Event::Start(tag) => {
                    self.element(&tag, &span, false)?;
                    self.open.push(self.elements.len() - 1);
                }
                Event::Empty(tag) => self.element(&tag, &span, true)?,
                Event::End(_) => self.close(&span),
                Event::Text(_) | Event::GeneralRef(_) => self.characters(span)?,
                Event::CData(_) => self.raw(span)?,
                Event::Comment(_) | Event::PI(_) => self.mixed(),
                Event::Decl(_) | Event::DocType(_) => {}
                Event::Eof => return self.end(),
            }
        }
    }

    fn element(&mut self, tag: &BytesStart<'_>, span: &Range<usize>, empty: bool) -> Result<()> {
        if self.open.is_empty() && !self.elements.is_empty() {
            return Err(self.wrong(span.start, "the document has a second outermost element"));
        }
        self.mixed();
        let name = tag.name();
        let whole = self.place(name.as_ref());
        let first = self.attributes.len();
        self.read_attributes(tag, span)?;
        let name = whole.end - local(&self.text[whole.clone()]).len()..whole.end;
        self.elements.push(Element {
            parent: self.open.last().copied(),
            name,
            span: span.clone(),
            content: (!empty).then_some(span.end..span.end),
            holds: Holds::Nothing,
            attributes: first..self.attributes.len(),
        });
        Ok(())
    }

    fn read_attributes(&mut self, tag: &BytesStart<'_>, span: &Range<usize>) -> Result<()> {
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|e| self.wrong(span.start, e))?;
            let value = self.place(&attribute.value);
            if let Err(e) = unescape(&attribute.value) {
                return Err(self.wrong(value.start, e));
            }
            self.attributes.push(Attribute { name: self.place(attribute.key.as_ref()), value });
        }
        Ok(())
    }

    /// Where a part of the text stands in it. The reader borrows all that it gives from the text.
    fn place(&self, part: &str) -> Range<usize> {
        let start = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + part.len()
    }

    fn close(&mut self, span: &Range<usize>) {
        if let Some(element) = self.open.pop().and_then(|id| self.elements.get_mut(id)) {
            element.span.end = span.end;
            element.content = element.content.clone().map(|c| c.start..span.start);
        }
    }

    fn holder(&mut self) -> Option<&mut Element> {
        let id = *self.open.last()?;
        self.elements.get_mut(id)
    }

    fn characters(&mut self, span: Range<usize>) -> Result<()> {
        let text = self.text;
        let part = &text[span.clone()];
        if part.contains('&')
            && let Err(e) = unescape(part)
        {
            return Err(self.wrong(span.start, e));
        }
        let blank = part.trim().is_empty();
        match self.holder() {
            None if blank || part.trim_matches('\u{feff}').is_empty() => {}
            None => return Err(self.wrong(span.start, "there is text outside of the outermost element")),
            Some(element) => {
                element.holds = match &element.holds {
                    Holds::Nothing => Holds::Text(span),
                    Holds::Text(range) => Holds::Text(range.start..span.end),
                    Holds::Raw(range) if blank => Holds::Raw(range.clone()),
                    Holds::Raw(_) | Holds::Other => Holds::Other,
                }
            }
        }
        Ok(())
    }

    fn raw(&mut self, span: Range<usize>) -> Result<()> {
        let text = self.text;
        let inner = span.start + "<![CDATA[".len()..span.end - "]]>".len();
        let Some(element) = self.holder() else {
            return Err(self.wrong(span.start, "there is text outside of the outermost element"));
        };
        element.holds = match &element.holds {
            Holds::Nothing => Holds::Raw(inner),
            Holds::Text(range) if text[range.clone()].trim().is_empty() => Holds::Raw(inner),
            _ => Holds::Other,
        };
        Ok(())
    }

    fn mixed(&mut self) {
        if let Some(element) = self.holder() {
            element.holds = Holds::Other;
        }
    }

    fn end(&self) -> Result<()> {
        if let Some(open) = self.open.last() {
            let element = &self.elements[*open];
            let message = format!("the element `{}` is not closed", &self.text[element.name.clone()]);
            return Err(self.wrong(element.span.start, message));
        }
        if self.elements.is_empty() {
            return Err(self.wrong(0, "there is no element in it"));
        }
        Ok(())
    }

    fn wrong(&self, at: usize, why: impl std::fmt::Display) -> Error {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        Error::bad_input("this is not well-formed XML")
            .because(why)
            .at(position_at(self.file, self.text, at))
            .next("mend the file by hand, commit it, and migrate again; nothing was changed")
    }
}

fn position(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Xml {
        Xml::read("t.xml", text.as_bytes()).unwrap()
    }

    fn edited(text: &str, edit: impl Fn(&Xml) -> Vec<Edit>) -> String {
        let xml = read(text);
        String::from_utf8(xml.with(edit(&xml)).unwrap()).unwrap()
    }

    #[test]
    fn values_are_found_and_changed_where_they_stand() {
        let text = "<?xml version='1.0' ?>\r\n<!-- a --><a:r xmlns:a='u'>\r\n  <b n = 'x &amp; y' m=\"2\"/><!-- <b/> --><c>t&lt;</c>\r\n</a:r>";
        let xml = read(text);
        let (b, c) = (xml.named("b").next().unwrap(), xml.named("c").next().unwrap());
        assert_eq!((xml.name(xml.root()), xml.named("b").count()), ("r", 1));
        assert_eq!(xml.attribute(b, "n").as_deref(), Some("x & y"));
        assert_eq!(xml.value(c).as_deref(), Some("t<"));
        let new = edited(text, |x| vec![x.set_attribute(b, "n", "<'\"").unwrap(), x.set_value(c, "&").unwrap()]);
        assert_eq!(new, text.replace("x &amp; y", "&lt;&apos;&quot;").replace("t&lt;", "&amp;"));
    }

    #[test]
    fn raw_sections_stay_raw() {
        let text = "<r><a>\n<![CDATA[x<y]]>\n</a></r>";
        let a = read(text).named("a").next().unwrap();
        assert_eq!(read(text).value(a).as_deref(), Some("x<y"));
        assert_eq!(edited(text, |x| vec![x.set_value(a, "z&").unwrap()]), "<r><a>\n<![CDATA[z&]]>\n</a></r>");
        assert_eq!(edited(text, |x| vec![x.set_value(a, "]]>").unwrap()]), "<r><a>]]&gt;</a></r>");
    }

    #[test]
    fn new_elements_are_laid_out_as_their_neighbours() {
        let append = |text: &str, to: &str| edited(text, |x| vec![x.append(x.named(to).next().unwrap(), "<n/>")]);
        assert_eq!(
            append("<r>\r\n\t<m>\r\n\t\t<a/>\r\n\t</m>\r\n</r>", "m"),
            "<r>\r\n\t<m>\r\n\t\t<a/>\r\n\t\t<n/>\r\n\t</m>\r\n</r>"
        );
        assert_eq!(append("<r>\n  <m x='1' />\n</r>", "m"), "<r>\n  <m x='1'>\n    <n/>\n  </m>\n</r>");
        assert_eq!(append("<r>\n  <m></m>\n</r>", "m"), "<r>\n  <m>\n    <n/>\n  </m>\n</r>");
        assert_eq!(append("<r><m><a/></m></r>", "m"), "<r><m><a/><n/></m></r>");
        assert_eq!(append("<r><m/></r>", "m"), "<r><m><n/></m></r>");
        assert_eq!(append("<r>\n</r>", "r"), "<r>\n    <n/>\n</r>");
    }

    #[test]
    fn a_removed_element_takes_its_line_along() {
        let remove = |text: &str| edited(text, |x| vec![x.remove(x.named("a").next().unwrap())]);
        assert_eq!(remove("<r>\r\n  <a>\r\n  </a>\r\n  <b/>\r\n</r>"), "<r>\r\n  <b/>\r\n</r>");
        assert_eq!(remove("<r><a/><b/></r>"), "<r><b/></r>");
        assert_eq!(remove("<r>\n  <a/> text\n</r>"), "<r>\n   text\n</r>");
    }

    #[test]
    fn encodings_are_kept() {
        let bytes = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><r a=\"\xC3\xA9\"/>";
        let xml = Xml::read("t.xml", bytes).unwrap();
        assert_eq!(xml.attribute(0, "a").as_deref(), Some("\u{c3}\u{a9}"), "as declared, not as it looks");
        let edit = xml.set_attribute(0, "a", "\u{e9}\u{20ac}").unwrap();
        assert_eq!(xml.with(vec![edit]).unwrap(), b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><r a=\"\xE9&#x20AC;\"/>");
        let wide: Vec<u8> = "\u{feff}<r a='\u{e9}'/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let xml = Xml::read("t.xml", &wide).unwrap();
        assert_eq!(xml.with(Vec::new()).unwrap(), wide);
    }

    #[test]
    fn what_is_not_well_formed_is_named_with_its_line() {
        for (text, line, why) in [
            ("<r>\n<a>\n</r>", 3, "a"),
            ("<r>\n<a>", 2, "not closed"),
            ("", 1, "no element"),
            ("<r/>\n<r/>", 2, "second outermost"),
            ("<r>\n<a n=1/></r>", 2, ""),
            ("<r>\n<a n='1' n='2'/></r>", 2, ""),
            ("<r>\n&nothing;</r>", 2, ""),
            ("<r/>\nx", 1, "outside"),
            ("<r>\n<a n='&b'/></r>", 2, ""),
            ("<r>\n<!-- a</r>", 2, ""),
        ] {
            let error = Xml::read("t.xml", text.as_bytes()).unwrap_err();
            let at = error.details().position.as_ref().unwrap();
            assert_eq!((at.file.as_str(), at.line), ("t.xml", line), "{text:?}: {error}");
            assert!(error.to_string().contains(why), "{text:?}: {error}");
        }
    }

    proptest! {
        /// Whatever can be read is written back byte for byte, and reading never panics.
        #[test]
        fn what_is_not_changed_stays(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[<>/a-c='\"&;! \\-\\[\\]\r\n?]{0,80}") {
            for document in [bytes, text.clone().into_bytes(), format!("<r>{text}</r>").into_bytes()] {
                if let Ok(xml) = Xml::read("t.xml", &document) {
                    prop_assert_eq!(xml.with(Vec::new()).unwrap(), document);
                }
            }
        }
    }
}
