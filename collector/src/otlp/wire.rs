//! The protobuf wire format: one field at a time, borrowed from the input.
//!
//! Limits: a varint has at most 10 bytes, a field number at most 29 bits, a length at most
//! what is left of the enclosing message. Groups (removed from proto3) are refused.

use thiserror::Error;

/// Why bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum WireError {
    /// The input ends inside a field.
    #[error("message ends inside a field")]
    Truncated,
    /// A varint longer than 10 bytes or beyond 64 bits.
    #[error("varint is too long")]
    Varint,
    /// Field number 0 or above 2^29 - 1, or a wire type that proto3 does not have.
    #[error("invalid field tag")]
    Tag,
    /// A known field with another wire type than its schema says.
    #[error("field has an unexpected wire type")]
    Type,
    /// A string field that is not UTF-8.
    #[error("string is not valid utf-8")]
    Utf8,
    /// More nesting than the limit allows.
    #[error("message is nested too deeply")]
    Depth,
}

/// A field's content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: string, bytes, message or packed list.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// The bytes of a length-delimited field.
    #[inline(always)]
    pub(crate) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Type),
        }
    }

    /// The text of a string field.
    #[inline]
    pub(crate) fn text(self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Utf8)
    }

    /// The number of a varint field.
    #[inline(always)]
    pub(crate) fn varint(self) -> Result<u64, WireError> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(WireError::Type),
        }
    }

    /// The number of a fixed64 or double field.
    #[inline(always)]
    pub(crate) fn fixed64(self) -> Result<u64, WireError> {
        match self {
            Self::Fixed64(number) => Ok(number),
            _ => Err(WireError::Type),
        }
    }
}

/// Walks the fields of one message.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over one message's bytes.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field, or `None` at the end of the message.
    // Always: where the field is matched at once, nothing is left of the value's enum.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::Tag)?;
        if number == 0 || number > 0x1fff_ffff {
            return Err(WireError::Tag);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(WireError::Tag),
        };
        Ok(Some((number, value)))
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, WireError> {
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        self.long_varint()
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for index in 0..10u32 {
            let (&byte, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
            self.rest = rest;
            // The tenth byte holds the 64th bit only.
            if index == 9 && byte > 1 {
                return Err(WireError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::Varint)
    }

    #[inline(always)]
    fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_of_ten_bytes_holds_the_64th_bit_and_no_more() {
        let mut max = vec![0x08];
        max.extend([0xff; 9]);
        max.push(0x01);
        assert_eq!(
            Reader::new(&max).next(),
            Ok(Some((1, Value::Varint(u64::MAX))))
        );
        *max.last_mut().unwrap() = 0x02;
        assert_eq!(Reader::new(&max).next(), Err(WireError::Varint));
    }

    #[test]
    fn damaged_tags_lengths_and_groups_are_refused() {
        for (bytes, error) in [
            (&[0x00, 0x00][..], WireError::Tag),
            (&[0x0b][..], WireError::Tag),
            (&[0x0a, 0x05, 1, 2][..], WireError::Truncated),
            (&[0x09, 1, 2][..], WireError::Truncated),
            (&[0x80][..], WireError::Truncated),
        ] {
            assert_eq!(Reader::new(bytes).next(), Err(error), "{bytes:?}");
        }
    }
}
