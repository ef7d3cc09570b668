//! Decimal numbers in millionths: exact where a configuration can say something, and without the machinery that reads and prints every double.

use std::fmt;

/// One, in millionths.
pub(super) const ONE: u64 = 1_000_000;

/// A number that is not whole, or too large to be exact, as the host's formats carry it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fraction(pub(super) f64);

impl Fraction {
    /// In millionths, rounded to the nearest; `None` for what is negative, no number, or above 10¹².
    pub(super) fn millionths(self) -> Option<u64> {
        (0.0..=1e12).contains(&self.0).then(|| self.magnitude())
    }

    fn magnitude(self) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
        let millionths = (self.0.abs() * 1e6).round() as u64;
        millionths
    }
}

/// To six places; `?` where that tells nothing.
impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.magnitude();
        if magnitude == 0 || magnitude == u64::MAX {
            return f.write_str("a number out of range");
        }
        let sign = if self.0 < 0.0 { "-" } else { "" };
        let (whole, part) = (magnitude / ONE, magnitude % ONE);
        match format!("{part:06}").trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            part => write!(f, "{sign}{whole}.{part}"),
        }
    }
}

/// Millionths of a decimal number in text, rounded to the nearest; `None` for anything but digits with at most one point, the first a digit, and
/// for more than 12 digits before the point.
pub(super) fn millionths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 12 || !digits(whole) || !digits(part) {
        return None;
    }
    // Six places and one to round by; an absent one is a zero.
    let places = part.bytes().chain(std::iter::repeat(b'0')).take(7);
    let number = whole
        .bytes()
        .chain(places)
        .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit.checked_sub(b'0')?)))?;
    Some(number.checked_add(5)? / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_doubles_are_the_same_millionths() {
        for (text, number) in [
            ("0", 0),
            ("0.1", 100_000),
            ("0.0000004", 0),
            ("0.0000005", 1),
            ("1.", 1_000_000),
            ("1.5", 1_500_000),
            ("12.3456789", 12_345_679),
            ("0.99999999999", 1_000_000),
        ] {
            assert_eq!(millionths(text), Some(number), "{text}");
            assert_eq!(Fraction(text.parse().unwrap()).millionths(), Some(number), "{text}");
        }
        for text in ["", ".5", "-1", "1e3", "1.2.3", "0x1", "1 ", "inf", "NaN", "1234567890123"] {
            assert_eq!(millionths(text), None, "{text}");
        }
        for number in [-0.1, f64::NAN, f64::INFINITY, 1e13] {
            assert_eq!(Fraction(number).millionths(), None, "{number}");
        }
    }

    #[test]
    fn fractions_are_shown_as_they_were_written() {
        for (number, shown) in [
            (1.5, "1.5"),
            (-0.25, "-0.25"),
            (1_000_000.000_001, "1000000.000001"),
            (1e-9, "a number out of range"),
            (1e300, "a number out of range"),
            (f64::NAN, "a number out of range"),
        ] {
            assert_eq!(Fraction(number).to_string(), shown);
        }
    }
}
