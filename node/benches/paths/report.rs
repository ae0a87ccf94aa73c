//! The rows: figures of several rounds, medians, ratios, and how they are shown.

use serde_json::json;
use std::fmt::Write;

/// Which way is good.
#[derive(Clone, Copy, PartialEq)]
pub enum Better {
    Lower,
    Higher,
}

/// What a row is held to.
#[derive(Clone, Copy)]
pub enum Goal {
    /// This ratio to the limit.
    Ratio(f64),
    /// This figure by itself.
    Figure(f64),
    /// Nothing: the row explains another.
    Shown,
}

/// One path and its limit.
pub struct Row {
    /// What is measured.
    pub path: String,
    /// Its unit.
    pub unit: &'static str,
    /// Which way is good.
    pub better: Better,
    /// What it is held to.
    pub goal: Goal,
    /// TimeRose, round by round.
    pub ours: Vec<f64>,
    /// What the limit is; empty where there is none.
    pub limit_is: &'static str,
    /// The limit, in the same rounds.
    pub limit: Vec<f64>,
}

impl Row {
    /// A row without rounds.
    pub fn new(path: impl Into<String>, unit: &'static str, better: Better, goal: Goal, limit_is: &'static str) -> Row {
        Row { path: path.into(), unit, better, goal, ours: Vec::new(), limit_is, limit: Vec::new() }
    }

    /// Adds a round.
    pub fn round(&mut self, ours: f64, limit: f64) {
        self.ours.push(ours);
        self.limit.push(limit);
    }

    /// The median of the rounds' ratios.
    fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self.ours.iter().zip(&self.limit).map(|(ours, limit)| ours / limit).collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    fn met(&self) -> Option<bool> {
        let (value, goal) = match self.goal {
            Goal::Ratio(goal) => (self.ratio()?, goal),
            Goal::Figure(goal) => (median(&self.ours), goal),
            Goal::Shown => return None,
        };
        Some(if self.better == Better::Lower { value <= goal } else { value >= goal })
    }

    fn goal(&self) -> String {
        let sign = if self.better == Better::Lower { "<=" } else { ">=" };
        match self.goal {
            Goal::Ratio(goal) => format!("{sign} {goal}x"),
            Goal::Figure(goal) => format!("{sign} {}", short(goal)),
            Goal::Shown => "-".into(),
        }
    }
}

/// The middle value; the mean of the two middle ones where their number is even.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which this share of the values lies, between two of them in proportion.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * (sorted.len().saturating_sub(1)) as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    let part = at - at.floor();
    sorted.get(below).copied().unwrap_or(f64::NAN) * (1.0 - part) + sorted.get(above).copied().unwrap_or(f64::NAN) * part
}

/// Three significant digits, and whole numbers with thousands apart.
fn short(value: f64) -> String {
    if value < 100.0 {
        let decimals = if value < 10.0 { 2 } else { 1 };
        return format!("{value:.decimals$}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn spread(values: &[f64]) -> String {
    match values {
        [] => "-".into(),
        values => format!("{} ({} to {})", short(median(values)), short(quantile(values, 0.0)), short(quantile(values, 1.0))),
    }
}

/// All rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let head = ["path", "unit", "TimeRose", "limit", "ratio", "goal", "met"].map(String::from);
    let mut cells = vec![head];
    for row in rows {
        let limit = if row.limit_is.is_empty() { "-".into() } else { format!("{}: {}", row.limit_is, spread(&row.limit)) };
        let ratio = row.ratio().map_or("-".into(), |ratio| format!("{ratio:.2}"));
        let met = row.met().map_or("-", |met| if met { "yes" } else { "NO" });
        cells.push([row.path.clone(), row.unit.into(), spread(&row.ours), limit, ratio, row.goal(), met.into()]);
    }
    let widths: Vec<usize> = (0..cells[0].len()).map(|at| cells.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    cells.insert(1, std::array::from_fn(|at| "-".repeat(widths[at])));
    let mut text = String::new();
    for row in &cells {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
    }
    text
}

/// The machine and all rows, one JSON object a line.
pub fn lines(rows: &[Row], machine: &str, load_after: &str) -> String {
    let mut text = format!("{}\n", json!({"machine": machine, "load_after": load_after}));
    for row in rows {
        let line = json!({
            "path": row.path, "unit": row.unit, "timerose": row.ours, "limit_is": row.limit_is, "limit": row.limit,
            "ratio": row.ratio(), "goal": row.goal(), "met": row.met(),
        });
        let _ = writeln!(text, "{line}");
    }
    text
}
