//! Numbers with their units, short enough for a column.

/// `950 B`, `1.5 KiB`, `12 MiB`
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024 KiB.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{} {}", short(scaled), UNITS[unit])
}

/// `850 µs`, `1.2 ms`, `3.4 s`
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", short(us as f64 / 1e3)),
        _ => format!("{} s", short(us as f64 / 1e6)),
    }
}

/// `350 ms`, `12 s`, `3m 12s`, `5h 3m`, `2d 4h`
pub fn millis(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// `12,345`; from ten million on `12.3 M`
pub fn count(number: u64) -> String {
    match number {
        0..10_000_000 => {
            let digits = number.to_string();
            let mut grouped = String::with_capacity(digits.len() + 2);
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        10_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.1} G", number as f64 / 1e9),
    }
}

pub fn percent(share: f64) -> String {
    format!("{share:.1} %")
}

/// Two digits that count, below ten.
fn short(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// `1 service`, `2 services`
pub fn of(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        let cases = [
            (bytes(1023), "1023 B"),
            (bytes(1536), "1.5 KiB"),
            (bytes((1 << 20) - 1), "1.0 MiB"),
            (bytes(u64::MAX), "16 EiB"),
            (micros(999), "999 µs"),
            (micros(1_234), "1.2 ms"),
            (micros(61_000_000), "61 s"),
            (millis(999), "999 ms"),
            (millis(192_000), "3m 12s"),
            (millis(90_000_000), "1d 1h"),
            (count(999), "999"),
            (count(1_234_567), "1,234,567"),
            (count(12_345_678), "12.3 M"),
            (count(u64::MAX), "18446744073.7 G"),
            (percent(100.0 / 3.0), "33.3 %"),
            (of(1, "service"), "1 service"),
            (of(0, "service"), "0 services"),
        ];
        for (got, expected) in cases {
            assert_eq!(got, expected);
        }
    }
}
