//! Naive readings of the four grammars: slow, allocating, written from the rules alone and with
//! other means than the crate (string searches, splitting, number parsing of the standard
//! library). What the crate says is compared with them.

/// `(trace id, parent id, flags)` or the offset of the first wrong byte.
pub(crate) fn traceparent(value: &[u8]) -> Result<(u128, u64, u8), usize> {
    // One character per byte, so that offsets stay.
    let text: String = value.iter().map(|&byte| char::from(byte)).collect();
    let start = text.chars().take_while(|c| " \t".contains(*c)).count();
    let text: Vec<char> = text.trim_matches([' ', '\t']).chars().collect();
    let is_hex = |c: char| "0123456789abcdef".contains(c);
    let later = text.len() >= 2 && text[..2] != ['0', '0'];
    for offset in 0..55 {
        let dash = matches!(offset, 2 | 35 | 52);
        match text.get(offset) {
            Some('-') if dash => {}
            Some(&c) if !dash && is_hex(c) => {}
            _ => return Err(start + offset),
        }
        if offset == 1 && text[..2] == ['f', 'f'] {
            return Err(start);
        }
    }
    match text.get(55) {
        None => {}
        Some('-') if later => {}
        Some(_) => return Err(start + 55),
    }
    let field = |from: usize, to: usize| text[from..to].iter().collect::<String>();
    let trace_id = u128::from_str_radix(&field(3, 35), 16).unwrap();
    let parent_id = u64::from_str_radix(&field(36, 52), 16).unwrap();
    let flags = u8::from_str_radix(&field(53, 55), 16).unwrap();
    if trace_id == 0 {
        return Err(start + 3);
    }
    if parent_id == 0 {
        return Err(start + 36);
    }
    Ok((trace_id, parent_id, flags % 4))
}

pub(crate) type Pair = (Vec<u8>, Vec<u8>);

fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| b" \t".contains(byte);
    let start = bytes.iter().take_while(|byte| is_space(byte)).count();
    let bytes = &bytes[start..];
    let end = bytes.iter().rev().take_while(|byte| is_space(byte)).count();
    &bytes[..bytes.len() - end]
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The members of all lines, or `None` for a bad member or too many.
pub(crate) fn tracestate(lines: &[&[u8]]) -> Option<Vec<Pair>> {
    let mut members = Vec::new();
    for line in lines {
        for member in line.split(|&byte| byte == b',').map(trim) {
            if member.is_empty() {
                continue;
            }
            let (key, value) = split_once(member, b'=')?;
            let key_ok = (1..=256).contains(&key.len())
                && (key[0].is_ascii_lowercase() || key[0].is_ascii_digit())
                && key
                    .iter()
                    .all(|byte| b"abcdefghijklmnopqrstuvwxyz0123456789_-*/@".contains(byte));
            let value_ok = (1..=256).contains(&value.len())
                && value.iter().all(|byte| (b' '..=b'~').contains(byte))
                && !value.contains(&b'=');
            if !key_ok || !value_ok {
                return None;
            }
            members.push((key.to_vec(), value.to_vec()));
        }
    }
    (members.len() <= 32).then_some(members)
}

/// What the writer has to produce: the line and the number of members dropped.
pub(crate) fn write_tracestate(
    foreign: &[Pair],
    own: &[Pair],
    remove: &[&[u8]],
    limit: usize,
) -> (Vec<u8>, usize) {
    let mut kept: Vec<Pair> = foreign
        .iter()
        .filter(|(key, _)| !own.iter().any(|own| own.0 == *key))
        .filter(|(key, _)| !remove.contains(&key.as_slice()))
        .cloned()
        .collect();
    let before = kept.len();
    while join(own, &kept).len() > limit {
        let large = kept.iter().rposition(|(k, v)| k.len() + 1 + v.len() > 128);
        kept.remove(large.unwrap_or(kept.len() - 1));
    }
    while own.len() + kept.len() > 32 {
        kept.pop();
    }
    let dropped = before - kept.len();
    (join(own, &kept), dropped)
}

fn join(first: &[Pair], second: &[Pair]) -> Vec<u8> {
    let members: Vec<Vec<u8>> = first
        .iter()
        .chain(second)
        .map(|(key, value)| [key.as_slice(), value].join(&b'='))
        .collect();
    members.join(&b',')
}

/// One well-formed baggage member: key, value and the whole of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BaggageMember {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) properties: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) raw: Vec<u8>,
}

/// The well-formed members of all lines, and the number of malformed ones.
pub(crate) fn baggage(lines: &[&[u8]]) -> (Vec<BaggageMember>, usize) {
    let (mut members, mut malformed) = (Vec::new(), 0);
    for line in lines {
        for raw in line.split(|&byte| byte == b',').map(trim) {
            if raw.is_empty() {
                continue;
            }
            match baggage_member(raw) {
                Some(member) => members.push(member),
                None => malformed += 1,
            }
        }
    }
    (members, malformed)
}

fn baggage_member(raw: &[u8]) -> Option<BaggageMember> {
    let is_key = |key: &[u8]| {
        let symbols = b"!#$%&'*+-.^_`|~";
        !key.is_empty()
            && key
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || symbols.contains(b))
    };
    let is_value = |value: &[u8]| {
        value
            .iter()
            .all(|b| b.is_ascii_graphic() && !b"\",;\\".contains(b))
    };
    let mut parts = raw.split(|&byte| byte == b';');
    let (key, value) = split_once(parts.next()?, b'=')?;
    let (key, value) = (trim(key).to_vec(), trim(value).to_vec());
    let mut properties = Vec::new();
    for part in parts {
        let property = match split_once(part, b'=') {
            Some((key, value)) => (trim(key).to_vec(), Some(trim(value).to_vec())),
            None => (trim(part).to_vec(), None),
        };
        let value_ok = property.1.as_deref().is_none_or(is_value);
        if !is_key(&property.0) || !value_ok {
            return None;
        }
        properties.push(property);
    }
    (is_key(&key) && is_value(&value)).then(|| BaggageMember {
        key,
        value,
        properties,
        raw: raw.to_vec(),
    })
}

/// What the writer has to produce: the line and the number of members dropped.
pub(crate) fn write_baggage(
    foreign: &[BaggageMember],
    own: &[Pair],
    remove: &[&[u8]],
    max_members: usize,
    max_bytes: usize,
) -> (Vec<u8>, usize) {
    let mut kept: Vec<Vec<u8>> = foreign
        .iter()
        .filter(|member| !own.iter().any(|own| own.0 == member.key))
        .filter(|member| !remove.contains(&member.key.as_slice()))
        .map(|member| member.raw.clone())
        .collect();
    let before = kept.len();
    let own: Vec<Vec<u8>> = own
        .iter()
        .map(|(key, value)| [key.as_slice(), value].join(&b'='))
        .collect();
    kept.truncate(max_members - own.len());
    loop {
        let line = [kept.as_slice(), &own].concat().join(&b',');
        if line.len() <= max_bytes {
            return (line, before - kept.len());
        }
        kept.pop();
    }
}

/// Percent decoding by way of the standard library's lossy conversion.
pub(crate) fn percent_decode(value: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < value.len() {
        let digits = value.get(at + 1..at + 3).filter(|_| value[at] == b'%');
        let decoded = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(value[at]));
        at += if decoded.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Threshold, randomness and the unknown sub-members of an `ot` value.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ot {
    pub(crate) threshold: Option<u64>,
    pub(crate) randomness: Option<u64>,
    pub(crate) unknown: Vec<Pair>,
    pub(crate) malformed: usize,
}

pub(crate) fn ot(value: &[u8]) -> Ot {
    let mut ot = Ot::default();
    if value.len() > 256 {
        ot.malformed = 1;
        return ot;
    }
    let is_hex = |text: &[u8]| text.iter().all(|byte| b"0123456789abcdef".contains(byte));
    let number = |text: &[u8]| {
        let padded = format!("{:0<14}", String::from_utf8(text.to_vec()).unwrap());
        u64::from_str_radix(&padded, 16).unwrap()
    };
    for part in value.split(|&byte| byte == b';') {
        let (key, value) = split_once(part, b':').unwrap_or_default();
        let is_th = key == b"th" && (1..=14).contains(&value.len()) && is_hex(value);
        let is_rv = key == b"rv" && value.len() == 14 && is_hex(value);
        let is_other = !matches!(key, b"th" | b"rv")
            && key.first().is_some_and(u8::is_ascii_lowercase)
            && key
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && value
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b));
        if is_th && ot.threshold.is_none() {
            ot.threshold = Some(number(value));
        } else if is_rv && ot.randomness.is_none() {
            ot.randomness = Some(number(value));
        } else if is_other {
            ot.unknown.push((key.to_vec(), value.to_vec()));
        } else if !part.is_empty() {
            ot.malformed += 1;
        }
    }
    ot
}
