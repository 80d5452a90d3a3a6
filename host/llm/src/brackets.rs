//! Where a JSON value ends, without parsing it.

/// Follows brackets and strings, byte by byte.
#[derive(Debug, Default)]
pub(crate) struct Brackets {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Brackets {
    /// Whether a value has begun and not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.depth > 0
    }

    /// Whether a value ends with this byte. What stands outside of brackets ends one too, which then is none.
    pub(crate) fn ends_value(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            b'"' if self.depth > 0 => self.in_string = true,
            _ => return self.depth == 0 && !byte.is_ascii_whitespace(),
        }
        false
    }
}
