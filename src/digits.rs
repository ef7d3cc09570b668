//! Whole numbers in decimal digits. A reply holds a dozen of them, and for each `core::fmt` takes longer than all else that is written of it.

/// The digits of the largest number.
const MOST: usize = 20;
/// What has nine digits fits 32 bits.
const PART: u64 = 1_000_000_000;
const DIGITS_OF_PART: usize = 9;

/// A number, written out.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    /// They stand at its end.
    bytes: [u8; MOST],
    start: usize,
}

impl Digits {
    /// Of this number, without leading zeros.
    #[must_use]
    pub fn of(number: u64) -> Self {
        Self::at_least(1, number)
    }

    /// Of this number, with as many leading zeros as make it so many digits.
    #[must_use]
    pub fn at_least(digits: usize, number: u64) -> Self {
        let (mut bytes, mut start, mut rest) = ([b'0'; MOST], MOST, number);
        // Division by ten is a multiplication in 32 bits; in 64 it takes ten times as long.
        while rest > u64::from(u32::MAX) {
            put(&mut bytes, start, (rest % PART) as u32);
            start = start.saturating_sub(DIGITS_OF_PART);
            rest /= PART;
        }
        start = put(&mut bytes, start, rest as u32).min(MOST.saturating_sub(digits));
        Self { bytes, start }
    }

    /// In ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Writes them at the end of a text.
    pub fn append_to(&self, text: &mut String) {
        text.push_str(self.as_str());
    }
}

/// Writes a number where zeros end at `end`; returns where it starts.
fn put(bytes: &mut [u8; MOST], end: usize, number: u32) -> usize {
    let (mut start, mut rest) = (end, number);
    while rest > 0 {
        start = start.saturating_sub(1);
        if let Some(byte) = bytes.get_mut(start) {
            // Less than ten: the low half of the byte.
            *byte |= (rest % 10) as u8;
        }
        rest /= 10;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_smallest_and_the_largest_are_whole() {
        for (number, text) in
            [(0, "0"), (9, "9"), (10, "10"), (1_000_000_000_000, "1000000000000"), (u64::MAX, "18446744073709551615")]
        {
            assert_eq!(Digits::of(number).as_str(), text);
        }
        assert_eq!(Digits::at_least(3, 0).as_str(), "000");
        assert_eq!(Digits::at_least(99, u64::MAX).as_str(), "18446744073709551615");
    }

    proptest! {
        #[test]
        fn any_number_is_written_as_the_standard_library_does(number in any::<u64>(), shift in 0..64_u32) {
            let number = number >> shift;
            let (plain, padded) = (Digits::of(number), Digits::at_least(3, number));
            prop_assert_eq!(plain.as_str(), number.to_string());
            prop_assert_eq!(padded.as_str(), format!("{number:03}"));
        }
    }
}
