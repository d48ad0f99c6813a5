//! Label values out of whatever octets a device or a certificate holds.

use extranet_proto::limits::LABEL_VALUE_BYTES;

/// Text from the octets of a `DisplayString`: UTF-8 with replacement characters for what is none, without control
/// characters, trimmed, and cut at [`LABEL_VALUE_BYTES`] on a character boundary.
pub(super) fn clean(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    let printable: String = text.chars().filter(|c| !c.is_control()).collect();
    let trimmed = printable.trim();
    let mut end = 0;
    for (start, character) in trimmed.char_indices() {
        let after = start + character.len_utf8();
        if after > LABEL_VALUE_BYTES {
            break;
        }
        end = after;
    }
    trimmed.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_become_clean_text() {
        for (octets, text) in [
            (b"GigabitEthernet0/0/1".as_slice(), "GigabitEthernet0/0/1"),
            (b"", ""),
            (b"eth0\0", "eth0"),
            (b"  up\r\nlink\t\x1b[31m ", "uplink[31m"),
            ("上联 拉萨".as_bytes(), "上联 拉萨"),
            (b"GBK \xc0\xad", "GBK \u{fffd}\u{fffd}"),
            ("nel\u{85}".as_bytes(), "nel"),
        ] {
            assert_eq!(clean(octets), text, "{octets:?}");
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(clean(&[b'x'; 300]).len(), 255);
        let chinese = "拉".repeat(100);
        let cut = clean(chinese.as_bytes());
        assert_eq!(cut.chars().count(), 85);
        let off_by_one = format!("xx{chinese}");
        assert_eq!(clean(off_by_one.as_bytes()).len(), 2 + 84 * 3);
    }
}
