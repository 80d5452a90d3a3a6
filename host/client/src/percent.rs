//! Percent-encoding of what stands in a path or in a query.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What RFC 3986 calls unreserved stays as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The text as one segment of a path, or as one value of a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_is_encoded_and_what_is_plain_stays() {
        assert_eq!(encoded("a b&c=ä/d"), "a%20b%26c%3D%C3%A4%2Fd");
        assert_eq!(encoded("polecat-2_x.y~z"), "polecat-2_x.y~z");
    }
}
