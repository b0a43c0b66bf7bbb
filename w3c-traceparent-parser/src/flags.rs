//! The `trace-flags` field.

use core::fmt;
use core::ops::BitOr;

/// The two known bits of the `trace-flags` field.
///
/// Unknown bits are cleared on the way in, so they can never be sent on: a header with flags `ff`
/// is valid and continues as `03`.
///
/// ```
/// use w3c_traceparent_parser::TraceFlags;
///
/// let flags = TraceFlags::from_bits(0xff);
/// assert!(flags.is_sampled() && flags.is_random());
/// assert_eq!(flags.bits(), 0x03);
/// assert_eq!(flags.with_sampled(false), TraceFlags::RANDOM);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);

impl TraceFlags {
    /// No bit set.
    pub const NONE: Self = Self(0);
    /// Bit 0: the caller may have recorded this trace.
    pub const SAMPLED: Self = Self(1);
    /// Bit 1 (Level 2): the right-most seven bytes of the trace id are uniformly random.
    pub const RANDOM: Self = Self(2);

    /// Takes the known bits and forgets all others.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED.0 | Self::RANDOM.0))
    }

    /// The bits, 0 to 3.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether bit 0 is set.
    #[inline]
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Whether bit 1 is set.
    #[inline]
    #[must_use]
    pub const fn is_random(self) -> bool {
        self.0 & Self::RANDOM.0 != 0
    }

    /// The same flags with bit 0 as given.
    #[inline]
    #[must_use]
    pub const fn with_sampled(self, sampled: bool) -> Self {
        Self(self.0 & !Self::SAMPLED.0 | sampled as u8)
    }

    /// The same flags with bit 1 as given.
    #[inline]
    #[must_use]
    pub const fn with_random(self, random: bool) -> Self {
        Self(self.0 & !Self::RANDOM.0 | (random as u8) << 1)
    }
}

impl BitOr for TraceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl From<u8> for TraceFlags {
    fn from(bits: u8) -> Self {
        Self::from_bits(bits)
    }
}

impl From<TraceFlags> for u8 {
    fn from(flags: TraceFlags) -> Self {
        flags.bits()
    }
}

impl fmt::Debug for TraceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

impl fmt::Display for TraceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}
