//! How a client is known to a server.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bulkhead_types::Secret;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Map, Value};

/// How a client is known to a server.
#[derive(Debug, Clone, Default)]
pub enum Login {
    /// The server wants nothing, or its default user is meant.
    #[default]
    None,
    /// A user with a password.
    User(String, Secret),
    /// A token.
    Token(Secret),
    /// A key (nkey), with the JWT of the user if a credentials file has one.
    Key(Key, Option<Secret>),
}

/// The key of a user.
#[derive(Clone)]
pub struct Key {
    seed: [u8; SEED_BYTES],
    public: String,
}

/// A text that is neither a seed nor a credentials file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it has to be a credentials file (.creds) with the JWT and the seed of a user, or a seed that begins with SU"
)]
pub struct LoginError;

const SEED_BYTES: usize = 32;
/// What begins a seed, and a public key, before the type of its owner.
const OF_SEED: u8 = 18 << 3;
const OF_USER: u8 = 20 << 3;

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl Login {
    /// Reads the text of a credentials file, or a seed alone.
    pub fn parse(text: &str) -> Result<Self, LoginError> {
        let mut lines = text.lines().map(str::trim);
        let mut after = |title: &str| {
            lines.by_ref().find(|line| line.starts_with("-----BEGIN") && line.contains(title))?;
            lines.by_ref().find(|line| !line.is_empty())
        };
        match after("NATS USER JWT") {
            Some(jwt) => {
                let seed = after("USER NKEY SEED").ok_or(LoginError)?;
                Ok(Self::Key(Key::parse(seed)?, Some(Secret::from(jwt.to_owned()))))
            }
            None => Ok(Self::Key(Key::parse(text.trim())?, None)),
        }
    }

    /// Adds to what the client says of itself. `nonce` is what the server wants signed.
    pub(crate) fn add_to(&self, connect: &mut Map<String, Value>, nonce: &str) {
        let mut add = |name: &str, value: &str| connect.insert(name.to_owned(), value.into());
        match self {
            Self::None => {}
            Self::User(name, password) => {
                add("user", name);
                add("pass", password.expose());
            }
            Self::Token(token) => _ = add("auth_token", token.expose()),
            Self::Key(key, jwt) => {
                match jwt {
                    Some(jwt) => add("jwt", jwt.expose()),
                    None => add("nkey", &key.public),
                };
                add("sig", &key.sign(nonce));
            }
        }
    }
}

impl Key {
    fn parse(text: &str) -> Result<Self, LoginError> {
        let bytes = from_base32(text).ok_or(LoginError)?;
        let (body, sum) = bytes.split_last_chunk::<2>().ok_or(LoginError)?;
        let [first, second, seed @ ..] = body else { return Err(LoginError) };
        let seed: [u8; SEED_BYTES] = seed.try_into().map_err(|_| LoginError)?;
        let of = (first & 0b111) << 5 | second >> 3;
        if u16::from_le_bytes(*sum) != crc(body) || first & !0b111 != OF_SEED || of != OF_USER {
            return Err(LoginError);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| LoginError)?;
        let mut public = vec![OF_USER];
        public.extend(pair.public_key().as_ref());
        public.extend(crc(&public).to_le_bytes());
        Ok(Self { seed, public: to_base32(&public) })
    }

    fn sign(&self, nonce: &str) -> String {
        // It was made once before.
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.seed);
        pair.map_or_else(
            |_| String::new(),
            |pair| URL_SAFE_NO_PAD.encode(pair.sign(nonce.as_bytes())),
        )
    }
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|it| *it == byte)?;
        held = held << 5 | u32::try_from(digit).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn to_base32(bytes: &[u8]) -> String {
    let (mut text, mut held, mut bits) = (String::new(), 0_u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(ALPHABET[(held >> bits & 31) as usize].into());
        }
    }
    if bits > 0 {
        text.push(ALPHABET[(held << (5 - bits) & 31) as usize].into());
    }
    text
}

/// CRC-16/XMODEM.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn a_seed_gives_the_public_key_that_servers_know() {
        let Login::Key(key, None) = Login::parse(&format!("{SEED}\n")).unwrap() else { panic!() };
        assert_eq!(key.public, PUBLIC);
        assert_eq!(format!("{key:?}"), PUBLIC);
    }

    #[test]
    fn a_credentials_file_has_a_token_and_a_seed() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ0.eyJq.c2ln\r\n------END NATS USER JWT------\r\n\r\n\
             ************************* IMPORTANT *************************\r\n\
             -----BEGIN USER NKEY SEED-----\r\n{SEED}\r\n------END USER NKEY SEED------\r\n"
        );
        let Login::Key(key, Some(jwt)) = Login::parse(&text).unwrap() else { panic!() };
        assert_eq!((key.public.as_str(), jwt.expose()), (PUBLIC, "eyJ0.eyJq.c2ln"));
        assert!(!format!("{:?}", Login::parse(&text)).contains("eyJ"));
    }

    #[test]
    fn what_is_no_seed_of_a_user_is_refused() {
        let account = "SAANDLKMXL6CUS3CP52WIXBEDN6YJ545GDKC65U5JZPPV6WH6ESWUA6YAI";
        let damaged = SEED.replace("HUDX", "HUDY");
        for text in
            ["", "SU", "hunter2", PUBLIC, account, &damaged, "-----BEGIN NATS USER JWT-----\nx"]
        {
            assert_eq!(Login::parse(text).map(drop), Err(LoginError), "{text}");
        }
    }
}
