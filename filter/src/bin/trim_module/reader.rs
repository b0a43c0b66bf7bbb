//! Reading of the binary format: bytes and LEB128 numbers.

/// Why a module could not be trimmed.
#[derive(Debug)]
pub(crate) struct TrimError(pub(crate) String);

/// A position in a module.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], TrimError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| TrimError("the module ends too early".to_owned()))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, TrimError> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// An unsigned number.
    pub(crate) fn leb(&mut self) -> Result<u32, TrimError> {
        let mut value = 0;
        for group in 0..5 {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << (7 * group);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(TrimError("a number is too long".to_owned()))
    }

    /// The bytes of a number of any kind and length.
    pub(crate) fn raw_leb(&mut self) -> Result<&'a [u8], TrimError> {
        let last = self.rest.iter().position(|byte| *byte < 0x80);
        self.take(last.map_or(usize::MAX, |last| last + 1))
    }

    /// A number of any kind and length that does not matter.
    pub(crate) fn skip_leb(&mut self) -> Result<(), TrimError> {
        self.raw_leb().map(drop)
    }

    /// Bytes with their length in front.
    pub(crate) fn sized(&mut self) -> Result<&'a [u8], TrimError> {
        let length = self.leb()?;
        self.take(length as usize)
    }
}

/// Writes an unsigned number.
pub(crate) fn write_leb(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a signed number, of which these are the bytes, without the groups that only repeat its
/// sign.
pub(crate) fn write_signed(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let [head @ .., before, last] = bytes {
        let sign = if before & 0x40 == 0 { 0x00 } else { 0x7f };
        if *last != sign {
            break;
        }
        bytes = bytes.get(..=head.len()).unwrap_or_default();
    }
    if let Some((last, head)) = bytes.split_last() {
        out.extend_from_slice(head);
        out.push(last & 0x7f);
    }
}
