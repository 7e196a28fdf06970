//! Undoing a content encoding within a bound, so that a few kilobytes cannot become gigabytes.

use std::io::Read;

/// More layers than any sender has reason for.
const MAX_LAYERS: usize = 3;
const BROTLI_BUFFER_BYTES: usize = 4_096;

/// Why a body stays as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    #[error("the content encoding is not known")]
    Unknown,
    #[error("the body is not what its content encoding says")]
    Broken,
    #[error("unpacked, the body is larger than the limit")]
    TooLarge,
}

/// Undoes `encoding` (RFC 9110 section 8.4: a list in the order in which it was applied). None where there
/// was nothing to undo.
///
/// # Errors
/// See [`UnpackError`]; the body is then left as it came.
pub(super) fn unpack(
    bytes: &[u8],
    encoding: &str,
    limit_bytes: usize,
) -> Result<Option<Vec<u8>>, UnpackError> {
    let layers = encoding.split(',').map(str::trim);
    let layers: Vec<&str> = layers
        .filter(|l| !l.is_empty() && !l.eq_ignore_ascii_case("identity"))
        .collect();
    if layers.len() > MAX_LAYERS {
        return Err(UnpackError::Unknown);
    }
    let mut unpacked: Option<Vec<u8>> = None;
    for layer in layers.iter().rev() {
        let input = unpacked.as_deref().unwrap_or(bytes);
        unpacked = Some(undo(input, &layer.to_ascii_lowercase(), limit_bytes)?);
    }
    Ok(unpacked)
}

fn undo(input: &[u8], layer: &str, limit_bytes: usize) -> Result<Vec<u8>, UnpackError> {
    match layer {
        "gzip" | "x-gzip" => bounded(flate2::read::MultiGzDecoder::new(input), limit_bytes),
        // RFC 9110 means zlib by it; some senders send bare deflate.
        "deflate" => match bounded(flate2::read::ZlibDecoder::new(input), limit_bytes) {
            Err(UnpackError::Broken) => {
                bounded(flate2::read::DeflateDecoder::new(input), limit_bytes)
            }
            done => done,
        },
        "br" => bounded(
            brotli_decompressor::Decompressor::new(input, BROTLI_BUFFER_BYTES),
            limit_bytes,
        ),
        "zstd" => {
            let mut decoder =
                zstd::stream::read::Decoder::new(input).map_err(|_| UnpackError::Broken)?;
            // RFC 9659: senders may not ask for a window above 8 MiB.
            decoder
                .window_log_max(23)
                .map_err(|_| UnpackError::Broken)?;
            bounded(decoder, limit_bytes)
        }
        _ => Err(UnpackError::Unknown),
    }
}

fn bounded(reader: impl Read, limit_bytes: usize) -> Result<Vec<u8>, UnpackError> {
    let mut out = Vec::new();
    let mut reader = reader.take(limit_bytes as u64 + 1);
    reader
        .read_to_end(&mut out)
        .map_err(|_| UnpackError::Broken)?;
    if out.len() > limit_bytes {
        Err(UnpackError::TooLarge)
    } else {
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn every_encoding_is_undone_and_several_in_their_order() {
        let data = br#"{"hello":"world"}"#;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(data).unwrap();
        let zlib = zlib.finish().unwrap();
        assert_eq!(unpack(&zlib, "deflate", 100), Ok(Some(data.to_vec())));
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(data).unwrap();
        assert_eq!(
            unpack(&bare.finish().unwrap(), "deflate", 100),
            Ok(Some(data.to_vec()))
        );
        let packed = zstd::encode_all(&data[..], 3).unwrap();
        assert_eq!(unpack(&packed, "ZSTD", 100), Ok(Some(data.to_vec())));
        let mut twice = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        twice.write_all(&packed).unwrap();
        assert_eq!(
            unpack(&twice.finish().unwrap(), "zstd, gzip", 100),
            Ok(Some(data.to_vec()))
        );
        // An uncompressed brotli stream of "a".
        assert_eq!(
            unpack(&[0x0b, 0x00, 0x80, 0x61, 0x03], "br", 100),
            Ok(Some(b"a".to_vec()))
        );
        assert_eq!(unpack(data, "identity", 100), Ok(None));
    }

    #[test]
    fn what_is_not_packed_as_it_says_is_broken() {
        for encoding in ["gzip", "br", "zstd", "deflate"] {
            assert_eq!(
                unpack(b"plain text", encoding, 100),
                Err(UnpackError::Broken),
                "{encoding}"
            );
        }
        assert_eq!(unpack(b"x", "lzma", 100), Err(UnpackError::Unknown));
        assert_eq!(
            unpack(b"x", "gzip,gzip,gzip,gzip", 100),
            Err(UnpackError::Unknown)
        );
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = zstd::encode_all(std::io::repeat(0).take(64 << 20), 1).unwrap();
        assert!(bomb.len() < 64 << 10);
        assert_eq!(unpack(&bomb, "zstd", 1 << 20), Err(UnpackError::TooLarge));
    }
}
