//! Times as RFC 3339 writes them, in milliseconds since 1970 UTC.

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970 UTC, now.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Reads `2026-01-31T23:59:59Z`, with a fraction or an offset such as `+08:00`; a date alone is its midnight in UTC. `None` where it is
/// neither.
pub fn parse(text: &str) -> Option<i64> {
    let (date, clock) = match text.split_once(['T', 't', ' ']) {
        Some((date, clock)) => (date, Some(clock)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)?;
    let month = number(parts.next()?, 2)?;
    let day = number(parts.next()?, 2)?;
    if parts.next().is_some() || !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * DAY_MS;
    clock.map_or(Some(midnight), |clock| Some(midnight + clock_ms(clock)?))
}

/// Milliseconds of a clock with its zone.
fn clock_ms(clock: &str) -> Option<i64> {
    let zone_at = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(zone_at);
    let mut parts = clock.split(':');
    let hour = number(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = number(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let (second, fraction) = {
        let text = parts.next()?;
        text.split_once('.').unwrap_or((text, ""))
    };
    let second = number(second, 2).filter(|second| *second < 61)?;
    if parts.next().is_some() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms = format!("{fraction:0<3}").get(..3)?.parse::<i64>().ok()?;
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = number(hours, 2)? * 60 + number(minutes, 2)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    Some(((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + ms)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days between 1970-01-01 and a date of the Gregorian calendar (H. Hinnant, `days_from_civil`).
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A time as `2026-01-31T23-59-59Z`: sorted by name it is sorted by time, and it may name a folder.
pub fn stamp(time_ms: i64) -> String {
    let (days, ms) = (time_ms.div_euclid(DAY_MS), time_ms.rem_euclid(DAY_MS));
    // H. Hinnant, `civil_from_days`.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let seconds = ms / 1000;
    format!("{year:04}-{month:02}-{day:02}T{:02}-{:02}-{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_has_them_and_nothing_else_is() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 0),
            ("2026-11-26T07:18:36Z", 1_795_677_516_000),
            ("2026-11-26T15:18:36.25+08:00", 1_795_677_516_250),
            ("2024-02-29 23:59:59Z", 1_709_251_199_000),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        for text in ["", "latest", "2026-02-30", "2026-1-1", "2026-01-01T00:00:00", "2026-01-01T24:00:00Z", "2026-01-01T0:0:0Z"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_stamp_says_the_time_that_it_was_made_of() {
        assert_eq!(stamp(1_795_677_516_000), "2026-11-26T07-18-36Z");
        assert_eq!(stamp(1_709_251_199_999), "2024-02-29T23-59-59Z");
    }
}
