//! The orientation in an XMP packet: RDF in XML, where `tiff:Orientation` is an attribute or an element.

use quick_xml::{
    NsReader,
    events::{BytesStart, Event},
    name::{QName, ResolveResult},
};

/// The namespace of TIFF's tags in XMP: "XMP Specification Part 2", section 3.3.
const NAMESPACE: &str = "http://ns.adobe.com/tiff/1.0/";

/// The most bytes of a packet that are looked at, and the most mentions of an orientation: to find the namespace of one
/// takes time with the number of namespaces.
const MAX_PACKET: usize = 4 << 20;
const MAX_MENTIONS: usize = 64;

/// The orientation as EXIF counts it. What stands before a fault in the XML counts.
pub(crate) fn orientation(packet: &[u8]) -> Option<u16> {
    let mut reader = NsReader::from_reader(packet.get(..MAX_PACKET).unwrap_or(packet));
    reader.config_mut().check_end_names = false;
    let mut mentions = 0;
    // The text of the element that holds the orientation, while it is open.
    let mut text: Option<String> = None;
    loop {
        match reader.read_event().ok()? {
            Event::Eof => return None,
            Event::Start(tag) => {
                text = None;
                if is_name(tag.name()) {
                    mentions += 1;
                    text = is_ours(reader.resolver().resolve_element(tag.name()).0).then(String::new);
                }
                if let Some(value) = attribute(&reader, &tag, &mut mentions) {
                    return Some(value);
                }
            }
            Event::Empty(tag) => {
                if let Some(value) = attribute(&reader, &tag, &mut mentions) {
                    return Some(value);
                }
            }
            Event::Text(part) => text.iter_mut().for_each(|text| text.push_str(&part)),
            Event::CData(part) => text.iter_mut().for_each(|text| text.push_str(&part)),
            Event::End(_) => {
                if let Some(value) = text.take().as_deref().and_then(number) {
                    return Some(value);
                }
            }
            _ => {}
        }
        if mentions > MAX_MENTIONS {
            return None;
        }
    }
}

fn attribute(reader: &NsReader<&[u8]>, tag: &BytesStart<'_>, mentions: &mut usize) -> Option<u16> {
    // Without the check for names that occur twice, which takes the square of their number.
    let mut attributes = tag.attributes();
    let found = attributes.with_checks(false).flatten().filter(|attribute| is_name(attribute.key));
    for attribute in found.take(MAX_MENTIONS) {
        *mentions += 1;
        if is_ours(reader.resolver().resolve_attribute(attribute.key).0) {
            return number(&attribute.value);
        }
    }
    None
}

fn is_name(name: QName<'_>) -> bool {
    name.local_name().as_ref() == "Orientation"
}

/// Whether a name is of TIFF's namespace, or has its usual prefix without a declaration.
fn is_ours(namespace: ResolveResult<'_>) -> bool {
    match namespace {
        ResolveResult::Bound(namespace) => namespace.as_ref() == NAMESPACE,
        ResolveResult::Unknown(prefix) => prefix == "tiff",
        ResolveResult::Unbound => false,
    }
}

fn number(text: &str) -> Option<u16> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn packet(body: &str) -> String {
        format!(
            "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\
             <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">{body}</rdf:RDF></x:xmpmeta>\
             <?xpacket end=\"w\"?>"
        )
    }

    #[test]
    fn attributes_and_elements_are_read_under_any_prefix() {
        for body in [
            r#"<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>"#,
            r#"<rdf:Description tiff:Orientation = '6' xmlns:tiff = 'http://ns.adobe.com/tiff/1.0/'></rdf:Description>"#,
            r#"<rdf:Description xmlns:t="http://ns.adobe.com/tiff/1.0/"><t:Orientation>6</t:Orientation></rdf:Description>"#,
            "<rdf:Description xmlns:tiff='http://ns.adobe.com/tiff/1.0/'><tiff:Make>&amp;</tiff:Make>\
             <tiff:Orientation\n>\n 6 <!-- turned -->\n</tiff:Orientation ></rdf:Description>",
            r#"<d xmlns:tiff="urn:other" tiff:Orientation="3"/><d tiff:Orientation="6" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"/>"#,
            r#"<rdf:Description tiff:Orientation="6"/>"#,
        ] {
            assert_eq!(orientation(packet(body).as_bytes()), Some(6), "{body}");
        }
    }

    #[test]
    fn other_names_and_values_are_no_orientation() {
        for body in [
            r#"<d xmlns:tiff="urn:other" tiff:Orientation="6"/>"#,
            r#"<d xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:orientation="6" Orientation="6"/>"#,
            r#"<d xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="Horizontal"/>"#,
            r#"<!-- <d tiff:Orientation="6"/> -->"#,
        ] {
            assert_eq!(orientation(packet(body).as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn what_stands_before_a_fault_counts() {
        let whole = packet(r#"<d tiff:Orientation="8"/><a></b><"#);
        assert_eq!(orientation(whole.as_bytes()), Some(8));
        assert_eq!(orientation(whole.split_once("/>").expect("it is there").0.as_bytes()), None);
    }

    #[test]
    fn hostile_packets_end_soon() {
        let start = Instant::now();
        let entities = r#"<!DOCTYPE d [<!ENTITY a "&b;&b;"><!ENTITY b "&a;&a;">]><d>&a;</d>"#.to_owned();
        let many: String = (0..200_000).map(|i| format!(" xmlns:n{i}='u'")).collect();
        let mentions = " x:Orientation='6'".repeat(100_000);
        for text in [
            entities,
            "<a>".repeat(1 << 20),
            format!("<d{many}{mentions}/>"),
            format!("<d{many}><e{mentions}/></d>"),
            format!("<d{many}>{}</d>", "<x:Orientation/>".repeat(100_000)),
            format!("<d {}", "a ".repeat(2 << 20)),
        ] {
            assert_eq!(orientation(text.as_bytes()), None);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in "[<>/='\":a-zO!?&;\\[\\] -]{0,60}") {
            let _ = orientation(text.as_bytes());
        }
    }
}
