//! Files that pages need beside them. They are in the binary.

/// A file.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// Its media type.
    pub kind: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The file of this name.
pub fn asset(name: &str) -> Option<Asset> {
    let (kind, text) = match name {
        "console.css" => ("text/css; charset=utf-8", include_str!("../assets/console.css")),
        "console.js" => ("text/javascript; charset=utf-8", include_str!("../assets/console.js")),
        "icon.svg" => ("image/svg+xml", include_str!("../assets/icon.svg")),
        _ => return None,
    };
    Some(Asset { kind, text })
}

impl Asset {
    /// Names what is in it, quoted: another text has another one.
    pub fn etag(&self) -> String {
        // FNV-1a: it distinguishes versions of a file, and protects nothing.
        let hash = self.text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("\"{hash:016x}\"")
    }
}
