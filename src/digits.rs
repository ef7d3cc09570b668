//! Whole numbers in decimal digits. A reply holds a dozen of them, and for each `core::fmt` takes longer than all else that is written of it.

/// The digits of the largest number.
const MOST: usize = 20;

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
        let (mut bytes, mut rest, mut written) = ([b'0'; MOST], number, 0_usize);
        for byte in bytes.iter_mut().rev() {
            if rest == 0 && written >= digits {
                break;
            }
            // Less than ten: the low half of the byte.
            *byte |= u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            written = written.saturating_add(1);
        }
        Self { bytes, start: MOST.saturating_sub(written) }
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

    /// Writes them at the end of a text; most are so few that to look whether they are UTF-8 takes longer.
    pub fn append_to(&self, text: &mut String) {
        for digit in self.as_bytes() {
            text.push(char::from(*digit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_smallest_and_the_largest_are_whole() {
        for (number, text) in [(0, "0"), (9, "9"), (10, "10"), (u64::MAX, "18446744073709551615")] {
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
