//! The arguments about what a node may take of disk and network.

/// What a node's content may take.
#[derive(clap::Args)]
pub struct Limits {
    /// How much blocks may take on disk: a number with a unit, such as 500MB or 10GiB. At 90 % of it, garbage is collected; what does not fit after that is
    /// refused. By default as much as there is.
    #[arg(long, env = "TIMEROSE_STORAGE_MAX", hide_env_values = true, value_name = "SIZE", value_parser = storage)]
    pub storage_max: Option<u64>,
    /// How much bitswap may send to all peers together, each getting its fair share: a size a second, such as 10MiB. By default as much as goes.
    #[arg(long, env = "TIMEROSE_BANDWIDTH_UP", hide_env_values = true, value_name = "RATE", value_parser = rate)]
    pub bandwidth_up: Option<u64>,
    /// How much bitswap may take from all peers together: a size a second, at least 256KiB.
    #[arg(long, env = "TIMEROSE_BANDWIDTH_DOWN", hide_env_values = true, value_name = "RATE", value_parser = rate)]
    pub bandwidth_down: Option<u64>,
}

/// The least that blocks may take: less would not hold what one function needs.
const STORAGE_LEAST: u64 = 1 << 20;
/// A usual block a second: peers would take a node that is slower for one that keeps silent.
const RATE_LEAST: u64 = 256 << 10;

/// The units of sizes: of 1024, and of 1000.
const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Reads `500MB` or `10GiB`; capitals do not matter.
fn size(text: &str) -> Result<u64, String> {
    let wanted = || "a whole number with a unit out of B, KiB, MiB, GiB, TiB, kB, MB, GB, TB, such as 10GiB".to_string();
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
    let (number, unit) = text.split_at(split);
    let (_, bytes) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim())).ok_or_else(wanted)?;
    let number: u64 = number.parse().map_err(|_| wanted())?;
    number.checked_mul(*bytes).ok_or_else(|| "too much".into())
}

fn storage(text: &str) -> Result<u64, String> {
    size(text).and_then(|bytes| if bytes < STORAGE_LEAST { Err("at least 1MiB".into()) } else { Ok(bytes) })
}

fn rate(text: &str) -> Result<u64, String> {
    size(text).and_then(|bytes| if bytes < RATE_LEAST { Err("at least 256KiB".into()) } else { Ok(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_of_1024_and_of_1000() {
        let read = ["7B", "2KiB", "3 mib", "1GiB", "5kB", "1TB"].map(|text| size(text).ok());
        assert_eq!(read, [Some(7), Some(2048), Some(3 << 20), Some(1 << 30), Some(5000), Some(1_000_000_000_000)]);
        for bad in ["", "12", "MiB", "1.5GiB", "-1MB", "1XB", "99999999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(storage("1000kB").is_err() && storage("1MiB").is_ok());
        assert!(rate("255KiB").is_err() && rate("256KiB").is_ok());
    }
}
