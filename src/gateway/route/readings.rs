//! How other parsers could read a path: one that they take for another route's is refused (I8). Pure.

/// The readings of a path without a canonical form, by parsers that also follow dot segments.
pub(super) fn every_reading(path: &str) -> Vec<String> {
    let mut readings = other_readings(path);
    readings.push(path.to_owned());
    let followed: Vec<String> = readings.iter().map(|path| without_dots(path)).collect();
    readings.extend(followed);
    readings
}

/// How parsers that decode escapes, cut parameters or merge slashes would read a path.
pub(super) fn other_readings(path: &str) -> Vec<String> {
    let bytes = path.as_bytes();
    if memchr::memchr2(b'%', b';', bytes).is_none() && !bytes.windows(2).any(|pair| pair == b"//") {
        return Vec::new();
    }
    let mut readings = vec![path.to_owned()];
    for reading in [decoded, without_parameters, with_single_slashes] {
        let read: Vec<String> = readings.iter().map(|path| reading(path)).collect();
        readings.extend(read);
    }
    readings
}

fn decoded(path: &str) -> String {
    let mut bytes = path.bytes();
    let mut out = Vec::with_capacity(path.len());
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    while let Some(byte) = bytes.next() {
        let read = if byte == b'%' {
            match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => u8::try_from(high * 16 + low).unwrap_or(byte),
                _ => byte,
            }
        } else {
            byte
        };
        out.push(if read == b'\\' { b'/' } else { read });
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn without_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

/// RFC 3986 5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn with_single_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}
