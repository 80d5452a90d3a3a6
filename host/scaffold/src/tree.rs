//! The files of a new agent, with its names filled in.

use bulkhead_types::AgentId;

use crate::Language;

/// Paths, with `/` between their parts, and contents.
pub(crate) type Tree = Vec<(&'static str, Vec<u8>)>;

/// All files of an agent.
pub(crate) fn tree(language: Language, name: &AgentId) -> Tree {
    let fill = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => filled(text, language, name.as_str()).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    let written = language.written().iter().map(|(path, bytes)| (*path, fill(bytes)));
    let generated = language.generated().iter().map(|(path, bytes)| (*path, bytes.to_vec()));
    written.chain(generated).collect()
}

fn filled(text: &str, language: Language, name: &str) -> String {
    text.replace("{{code}}", language.code().trim_end())
        .replace("{{component}}", language.component().unwrap_or_default())
        .replace("{{key}}", &toml_key(name))
        .replace("{{crate}}", &name.replace('-', "_"))
        .replace("{{type}}", &type_name(name))
        .replace("{{file}}", language.entry())
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
        .replace("{{name}}", name)
}

/// As a part of a TOML key.
fn toml_key(name: &str) -> String {
    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_bare { name.to_owned() } else { format!("\"{name}\"") }
}

/// As a type of Rust: `town-crier` is `TownCrier`.
fn type_name(name: &str) -> String {
    let words = name.split(['-', '_']).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
