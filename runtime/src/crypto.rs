//! Hashes, sealed secrets and tokens. Everything cryptographic comes from `ring`.

use std::fmt;

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
    rand::{SecureRandom, SystemRandom},
};

use crate::env;

const SEALED_PREFIX: &str = "v1.";

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CryptoError {
    #[error("the sealed text is not of a form this version knows")]
    Form,
    #[error("the sealed text was made with another master key, for another row, or was changed")]
    Refused,
}

/// SHA-256 as 64 lower-case hexadecimal digits.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in sha256(bytes) {
        for digit in [byte >> 4, byte & 15] {
            hex.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    hex
}

/// SHA-256 as 32 bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Reads what [`sha256_hex`] writes.
#[must_use]
pub fn parse_sha256_hex(hex: &str) -> Option<[u8; 32]> {
    let hex = hex.as_bytes();
    let mut out = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(out)
}

/// Bytes from the operating system's generator.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives random bytes");
    bytes
}

/// Seals secrets at rest and in transit: AES-256-GCM with a random nonce, bound to a context.
#[derive(Clone)]
pub struct MasterKey(LessSafeKey);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl MasterKey {
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key of AES-256");
        Self(LessSafeKey::new(key))
    }

    /// `MASTER_KEY`, base64 of 32 bytes; none where it is not set.
    ///
    /// # Errors
    /// It is set and is not that.
    pub fn from_env() -> anyhow::Result<Option<Self>> {
        let Some(text) = env::text("MASTER_KEY") else {
            return Ok(None);
        };
        let bytes = STANDARD
            .decode(text.trim())
            .context("MASTER_KEY is not base64")?;
        let Ok(bytes) = <[u8; 32]>::try_from(bytes) else {
            bail!("MASTER_KEY must be 32 bytes in base64: make one with `openssl rand -base64 32`");
        };
        Ok(Some(Self::new(&bytes)))
    }

    /// Seals `plain`; `context` (the id of the row) must be given again to open it.
    #[must_use]
    pub fn seal(&self, plain: &[u8], context: &str) -> String {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut sealed = plain.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut sealed,
            )
            .expect("a secret is shorter than the cipher's limit of 64 GiB");
        let mut whole = nonce.to_vec();
        whole.append(&mut sealed);
        format!("{SEALED_PREFIX}{}", STANDARD.encode(whole))
    }

    /// # Errors
    /// Another form, another key, another context, or changed text.
    pub fn open(&self, sealed: &str, context: &str) -> Result<Vec<u8>, CryptoError> {
        let text = sealed
            .strip_prefix(SEALED_PREFIX)
            .ok_or(CryptoError::Form)?;
        let whole = STANDARD.decode(text).map_err(|_| CryptoError::Form)?;
        let (nonce, sealed) = whole.split_at_checked(NONCE_LEN).ok_or(CryptoError::Form)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CryptoError::Form)?;
        let mut sealed = sealed.to_vec();
        let plain = self
            .0
            .open_in_place(nonce, Aad::from(context.as_bytes()), &mut sealed)
            .map_err(|_| CryptoError::Refused)?;
        Ok(plain.to_vec())
    }
}

/// Tokens that people carry: a recognisable prefix, 40 random characters, and a checksum by which secret
/// scanners tell a real one from noise.
pub mod token {
    use super::{random_bytes, sha256};

    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const RANDOM_CHARS: usize = 40;
    const CHECK_CHARS: usize = 6;

    /// `prefix`, 40 characters of base 62 (238 bits), 6 of checksum.
    #[must_use]
    pub fn generate(prefix: &str) -> String {
        let mut text = prefix.to_owned();
        while text.len() < prefix.len() + RANDOM_CHARS {
            // Bytes from 248 on are thrown away, so that every character is equally likely.
            let [byte] = random_bytes::<1>();
            if byte < 248 {
                text.push(char::from(ALPHABET[usize::from(byte) % 62]));
            }
        }
        let check = checksum(&text);
        text.push_str(&check);
        text
    }

    /// Whether `text` has the form of a token with this prefix. Says nothing about its being valid.
    #[must_use]
    pub fn check(text: &str, prefix: &str) -> bool {
        let length = prefix.len() + RANDOM_CHARS + CHECK_CHARS;
        text.len() == length
            && text.starts_with(prefix)
            && text.is_char_boundary(length - CHECK_CHARS)
            && checksum(&text[..length - CHECK_CHARS]) == text[length - CHECK_CHARS..]
    }

    fn checksum(text: &str) -> String {
        let hash = sha256(text.as_bytes());
        let mut number = u64::from_be_bytes(hash[..8].try_into().expect("eight bytes of a hash"));
        let mut check = String::with_capacity(CHECK_CHARS);
        for _ in 0..CHECK_CHARS {
            check.push(char::from(ALPHABET[(number % 62) as usize]));
            number /= 62;
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_with_its_key_and_context() {
        let key = MasterKey::new(&[7; 32]);
        let sealed = key.seal(b"whsec_abc", "destination-1");
        assert_eq!(
            key.open(&sealed, "destination-1").as_deref(),
            Ok(&b"whsec_abc"[..])
        );
        assert_eq!(
            key.open(&sealed, "destination-2"),
            Err(CryptoError::Refused)
        );
        assert_eq!(
            MasterKey::new(&[8; 32]).open(&sealed, "destination-1"),
            Err(CryptoError::Refused)
        );
        assert_eq!(key.open("plain", "destination-1"), Err(CryptoError::Form));
        assert_ne!(
            sealed,
            key.seal(b"whsec_abc", "destination-1"),
            "nonces differ"
        );
    }

    #[test]
    fn a_token_carries_its_checksum() {
        let token = token::generate("whr_");
        assert!(token::check(&token, "whr_"));
        assert!(!token::check(&token, "whs_"));
        let mut changed = token.into_bytes();
        changed[10] = if changed[10] == b'a' { b'b' } else { b'a' };
        assert!(!token::check(&String::from_utf8(changed).unwrap(), "whr_"));
        assert!(!token::check("whr_é", "whr_"));
    }

    #[test]
    fn hashes_read_back() {
        // FIPS 180-4 example.
        let hex = sha256_hex(b"abc");
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(parse_sha256_hex(&hex), Some(sha256(b"abc")));
        assert_eq!(parse_sha256_hex("zz"), None);
    }
}
