//! Time: instants, and the windows that limits count in.
//!
//! All times are UTC nanoseconds since the Unix epoch, as the host's clock gives them. Spans are nanoseconds too.

use std::fmt;
use std::num::NonZeroU64;

/// Nanoseconds in one second.
pub const SECOND: u64 = 1_000_000_000;
/// Nanoseconds in one millisecond.
pub const MILLISECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;
const WEEK: u64 = 7 * DAY;
/// The epoch was a Thursday; weeks start on Monday, four days after it.
const MONDAY: u64 = 4 * DAY;
/// The longest duration a limit may have.
const LONGEST_DAYS: u64 = 3650;

/// An instant: nanoseconds since the Unix epoch (until the year 2554).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This instant moved on by `span` nanoseconds; stays at the end of time rather than wrap.
    #[must_use]
    pub fn after(self, span: u64) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// As RFC 3339 writes it, in UTC and whole seconds, rounded up: `2026-05-04T12:34:56Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let seconds = seconds_up(self.0);
        let (day, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month) = civil_month(day);
        let day = day.saturating_sub(days_before(year, month)).saturating_add(1);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// Nanoseconds since `earlier`; 0 when `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Whole seconds of a span, rounded up, so that waiting that long is never too short.
#[must_use]
pub fn seconds_up(span: u64) -> u64 {
    span.div_ceil(SECOND)
}

/// The period a limit's maximum applies to: what `per` says in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    span: Span,
    word: Option<Word>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    /// Windows of this length, one after the other since the epoch.
    Every(NonZeroU64),
    Week,
    Month,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

const WORDS: [(&str, Word); 6] = [
    ("second", Word::Second),
    ("minute", Word::Minute),
    ("hour", Word::Hour),
    ("day", Word::Day),
    ("week", Word::Week),
    ("month", Word::Month),
];

/// Units of durations in nanoseconds, largest first: a canonical duration uses the first that divides it.
const UNITS: [(&str, u64); 6] =
    [("w", WEEK), ("d", DAY), ("h", 3600 * SECOND), ("m", 60 * SECOND), ("s", SECOND), ("ms", 1_000_000)];

// === impl Window ===

impl Window {
    /// Reads `per`: a word (`second minute hour day week month`, a UTC-aligned window) or a whole number with a unit
    /// (`ms s m h d w`). `None` for anything else, for zero and for more than ten years (3650 days).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((_, word)) = WORDS.iter().find(|(name, _)| *name == text) {
            return Some(Self::word(*word));
        }
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(digits);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit)?;
        Self::every(number.parse::<u64>().ok()?.checked_mul(*unit)?)
    }

    /// A window of `span` nanoseconds; `None` for zero and for more than ten years.
    #[must_use]
    pub fn every(span: u64) -> Option<Self> {
        let span = NonZeroU64::new(span).filter(|s| s.get() <= LONGEST_DAYS.saturating_mul(DAY))?;
        Some(Self { span: Span::Every(span), word: None })
    }

    fn word(word: Word) -> Self {
        let every = |span| NonZeroU64::new(span).map_or(Span::Week, Span::Every);
        let span = match word {
            Word::Second => every(SECOND),
            Word::Minute => every(60 * SECOND),
            Word::Hour => every(3600 * SECOND),
            Word::Day => every(DAY),
            Word::Week => Span::Week,
            Word::Month => Span::Month,
        };
        Self { span, word: Some(word) }
    }

    /// Whether this is a calendar word, whose windows follow the calendar, and not a duration.
    #[must_use]
    pub fn is_word(self) -> bool {
        self.word.is_some()
    }

    /// First instant of the window that holds `t`, and first instant of the one after it.
    #[must_use]
    pub fn bounds(self, t: Timestamp) -> (Timestamp, Timestamp) {
        let start = match self.span {
            Span::Every(span) => Timestamp(t.0.saturating_sub(t.0 % span)),
            // Before the first Monday the week that holds the epoch is cut short.
            Span::Week => match t.0.checked_sub(MONDAY) {
                Some(since) => Timestamp(t.0.saturating_sub(since % WEEK)),
                None => return (Timestamp(0), Timestamp(MONDAY)),
            },
            Span::Month => {
                let (year, month) = civil_month(t.0 / DAY);
                let next = if month == 12 { (year.saturating_add(1), 1) } else { (year, month.saturating_add(1)) };
                let midnight = |(y, m)| Timestamp(days_before(y, m).saturating_mul(DAY));
                return (midnight((year, month)), midnight(next));
            }
        };
        (start, start.after(self.span().get()))
    }

    /// Length in nanoseconds; for `month`, whose windows differ, the longest (31 days).
    #[must_use]
    pub fn span(self) -> NonZeroU64 {
        const LONGEST_MONTH: NonZeroU64 = NonZeroU64::new(31 * DAY).unwrap();
        const ONE_WEEK: NonZeroU64 = NonZeroU64::new(WEEK).unwrap();
        match self.span {
            Span::Every(span) => span,
            Span::Week => ONE_WEEK,
            Span::Month => LONGEST_MONTH,
        }
    }

    /// The window's length in whole seconds, rounded up; `None` where windows differ in length (`month`).
    #[must_use]
    pub fn seconds(self) -> Option<u64> {
        (self.span != Span::Month).then(|| seconds_up(self.span().get()))
    }

    /// What identifies the window in a counter's id: kind of span and length. Words and durations of the same windows are the same.
    pub(crate) fn identity(self) -> (u8, u64) {
        match self.span {
            Span::Every(span) => (0, span.get()),
            Span::Week => (1, 0),
            Span::Month => (2, 0),
        }
    }
}

/// Canonical: the word, or the duration in its largest whole unit (`60s` → `1m`).
impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = WORDS.iter().find(|(_, word)| Some(*word) == self.word) {
            return f.write_str(name);
        }
        let span = self.span().get();
        let whole = UNITS.iter().find(|(_, length)| span.is_multiple_of(*length));
        match whole.and_then(|(unit, length)| Some((unit, span.checked_div(*length)?))) {
            Some((unit, count)) => write!(f, "{count}{unit}"),
            None => write!(f, "{span}ns"),
        }
    }
}

/// Year and month (1–12) of a day counted from the epoch, in the proleptic Gregorian calendar.
/// H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`, for days at or after the epoch.
fn civil_month(day: u64) -> (u64, u64) {
    let z = day.saturating_add(719_468);
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe.saturating_sub(doe / 1460).saturating_add(doe / 36_524).saturating_sub(doe / 146_096)) / 365;
    let doy = doe.saturating_sub(days_in_years(yoe));
    let mp = doy.saturating_mul(5).saturating_add(2) / 153;
    let month = if mp < 10 { mp.saturating_add(3) } else { mp.saturating_sub(9) };
    let year = yoe.saturating_add(era.saturating_mul(400)).saturating_add(u64::from(month <= 2));
    (year, month)
}

/// Days from the epoch to the first day of a month; the same source, `days_from_civil`.
fn days_before(year: u64, month: u64) -> u64 {
    let y = year.saturating_sub(u64::from(month <= 2));
    let era = y / 400;
    let mp = if month > 2 { month.saturating_sub(3) } else { month.saturating_add(9) };
    let doy = mp.saturating_mul(153).saturating_add(2) / 5;
    let doe = days_in_years(y % 400).saturating_add(doy);
    era.saturating_mul(146_097).saturating_add(doe).saturating_sub(719_468)
}

/// Days in the first `years` years of a 400-year era that starts on 1 March.
fn days_in_years(years: u64) -> u64 {
    years.saturating_mul(365).saturating_add(years / 4).saturating_sub(years / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `date -u --date=@…`.
    #[test]
    fn instants_are_written_as_rfc_3339_rounded_up() {
        for (nanoseconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:01Z"),
            (951_782_399 * SECOND, "2000-02-28T23:59:59Z"),
            (951_782_399 * SECOND + 1, "2000-02-29T00:00:00Z"),
            (1_777_898_096 * SECOND, "2026-05-04T12:34:56Z"),
            (1_798_761_599 * SECOND + 999_999_999, "2027-01-01T00:00:00Z"),
            (u64::MAX, "2554-07-21T23:34:34Z"),
        ] {
            assert_eq!(Timestamp(nanoseconds).rfc3339(), text);
        }
    }

    fn window(text: &str) -> Window {
        Window::parse(text).unwrap_or_else(|| unreachable!("{text} is a window"))
    }

    #[test]
    fn names_are_canonical() {
        for (given, canonical) in [
            ("60s", "1m"),
            ("1m", "1m"),
            ("90s", "90s"),
            ("3600s", "1h"),
            ("24h", "1d"),
            ("14d", "2w"),
            ("1500ms", "1500ms"),
            ("1000ms", "1s"),
            ("day", "day"),
            ("month", "month"),
            ("300d", "300d"),
            ("007m", "7m"),
        ] {
            assert_eq!(window(given).to_string(), canonical, "{given}");
        }
    }

    #[test]
    fn refuses_what_is_no_window() {
        for text in [
            "",
            "0s",
            "1",
            "m",
            "1 minute",
            "-1m",
            "1.5m",
            "1M",
            "1y",
            "days",
            "3651d",
            "99999999999999999999s",
            "1m1",
            "١m",
        ] {
            assert_eq!(Window::parse(text), None, "{text}");
        }
    }

    #[test]
    fn calendar_windows_are_aligned_in_utc() {
        // 2028-02-29T12:34:56Z, a Tuesday: 1835440496 s.
        let t = Timestamp(1_835_440_496 * SECOND);
        for (per, start, end) in [
            ("second", 1_835_440_496, 1_835_440_497),
            ("minute", 1_835_440_440, 1_835_440_500),
            ("hour", 1_835_438_400, 1_835_442_000),
            ("day", 1_835_395_200, 1_835_481_600),
            ("week", 1_835_308_800, 1_835_913_600), // Monday 28th February … Monday 6th March
            ("month", 1_832_976_000, 1_835_481_600), // 1st February … 1st March
        ] {
            assert_eq!(window(per).bounds(t), (Timestamp(start * SECOND), Timestamp(end * SECOND)), "{per}");
        }
    }

    #[test]
    fn months_follow_each_other_for_500_years() {
        let month = window("month");
        let (mut start, mut count) = (Timestamp(0), 0u64);
        while count < 12 * 500 {
            let (first, next) = month.bounds(start);
            assert_eq!(first, start);
            assert_eq!(month.bounds(Timestamp(next.0 - 1)), (first, next));
            assert!((28..=31).contains(&(next.since(first) / DAY)));
            (start, count) = (next, count + 1);
        }
        // 500 years from 1970 hold 122 leap days: 2100, 2200 and 2300 have none.
        assert_eq!(start.0 / DAY, 500 * 365 + 122);
    }
}
