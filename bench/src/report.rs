//! Medians over the rounds, as Markdown that can be pasted to `docs/performance.md`.
//!
//! A ratio is taken within its round and the median of the ratios is printed; the range of the rates stands beside
//! their median, so that a restless machine shows.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::setting::{Loaded, Measured, ServerCost, Setting};

#[derive(Debug)]
pub(crate) struct Report {
    arguments: Arguments,
    machine: String,
    /// By setting in the order measured, then by round.
    runs: Vec<(Setting, BTreeMap<u32, Measured>)>,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self { arguments: arguments.clone(), machine: machine(), runs: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: u32, setting: Setting, measured: Measured) {
        let place = self.runs.iter().position(|(known, _)| *known == setting);
        let place = place.unwrap_or_else(|| {
            self.runs.push((setting, BTreeMap::new()));
            self.runs.len() - 1
        });
        self.runs[place].1.insert(round, measured);
    }

    fn rate_of(&self, limit: Setting, round: u32) -> Option<f64> {
        let (_, rounds) = self.runs.iter().find(|(setting, _)| *setting == limit)?;
        match rounds.get(&round)? {
            Measured::Load(loaded) => Some(loaded.rate()),
            Measured::Idle { .. } => None,
        }
    }

    fn row(&self, setting: Setting, rounds: &[(u32, &Loaded)]) -> String {
        let each = |figure: &dyn Fn(&Loaded) -> f64| -> Vec<f64> {
            rounds.iter().map(|(_, loaded)| figure(loaded)).collect()
        };
        let rates = each(&Loaded::rate);
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let ratio_to = |limit: Setting| -> Option<f64> {
            let ratios = rounds
                .iter()
                .filter_map(|(round, loaded)| Some(loaded.rate() / self.rate_of(limit, *round)?));
            median(&ratios.collect::<Vec<f64>>())
        };
        let deliveries = |loaded: &Loaded| loaded.deliveries as f64;
        let server: Vec<f64> = rounds
            .iter()
            .filter_map(|(_, loaded)| Some(micros(loaded.server?.cpu) / deliveries(loaded)))
            .collect();
        let backend = |of: &dyn Fn(&ServerCost) -> Option<Duration>| -> Vec<f64> {
            rounds
                .iter()
                .filter_map(|(_, loaded)| Some(micros(of(&loaded.server?)?) / deliveries(loaded)))
                .collect()
        };
        let own = each(&|loaded| micros(loaded.own_cpu) / deliveries(loaded));
        let memory: Vec<f64> = rounds
            .iter()
            .filter_map(|(_, loaded)| Some(loaded.server?.peak_memory_kib as f64 / 1024.0))
            .collect();
        let latency = |of: &dyn Fn(&Loaded) -> &[u64], share: f64| {
            median(&each(&|loaded| percentile(of(loaded), share)))
        };
        let sum = |count: &dyn Fn(&Loaded) -> usize| -> usize {
            rounds.iter().map(|(_, loaded)| count(loaded)).sum()
        };
        let cells = [
            setting.name().to_owned(),
            format!("{} ({}–{})", rate(median(&rates)), rate(Some(least)), rate(Some(most))),
            number(ratio_to(Setting::Raw), 2),
            number(ratio_to(Setting::Sockets), 2),
            number(median(&server), 1),
            number(median(&backend(&|cost| cost.backends.postgres)), 1),
            number(median(&backend(&|cost| cost.backends.redis)), 1),
            number(median(&own), 1),
            milliseconds(latency(&|loaded| &loaded.acknowledged, 0.50)),
            milliseconds(latency(&|loaded| &loaded.acknowledged, 0.99)),
            milliseconds(latency(&|loaded| &loaded.delivered, 0.50)),
            milliseconds(latency(&|loaded| &loaded.delivered, 0.99)),
            number(median(&memory), 0),
            sum(&|loaded| loaded.missing).to_string(),
            sum(&|loaded| loaded.duplicates).to_string(),
            sum(&|loaded| loaded.strange).to_string(),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

const HEAD: &str = "\
| setting | deliveries/s | of raw | of sockets | server CPU µs a delivery | PostgreSQL | Redis | load + receiver | acknowledged p50 ms | p99 | end to end p50 ms | p99 | peak memory MiB | missing | duplicates | altered |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments = &self.arguments;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "{} round(s), medians (least–most); {} requests at once; {} events at full speed; payloads of {} bytes; \
             --max-in-flight {}; {}.{}\n",
            arguments.runs,
            arguments.concurrency,
            arguments.events,
            crate::payload::SIZE,
            arguments.max_in_flight,
            arguments.layout().title(),
            if arguments.quick { " A quick run: not to be quoted." } else { "" }
        )?;
        writeln!(f, "{HEAD}")?;
        for (setting, rounds) in &self.runs {
            let loaded: Vec<(u32, &Loaded)> = rounds
                .iter()
                .filter_map(|(round, measured)| match measured {
                    Measured::Load(loaded) => Some((*round, loaded)),
                    Measured::Idle { .. } => None,
                })
                .collect();
            if !loaded.is_empty() {
                writeln!(f, "{}", self.row(*setting, &loaded))?;
            }
        }
        for (_, rounds) in &self.runs {
            let idle = |figure: fn(f64, u64) -> f64| -> Vec<f64> {
                let figures = rounds.values().filter_map(|measured| match measured {
                    Measured::Idle { cpu_percent, memory_kib } => Some(figure(*cpu_percent, *memory_kib)),
                    Measured::Load(_) => None,
                });
                figures.collect()
            };
            if let Some(cpu) = median(&idle(|cpu, _| cpu)) {
                let memory = median(&idle(|_, kib| kib as f64 / 1024.0));
                let memory = number(memory, 0);
                writeln!(f, "\nIdle with 1,000 subscriptions: {cpu:.2} % of a core, {memory} MiB.")?;
            }
        }
        Ok(())
    }
}

pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*sorted.get(middle - 1)?, upper))
}

/// Of sorted figures, by the nearest rank; 0 of none.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length is a length"
    )]
    let at = (rank as usize).saturating_sub(1);
    sorted.get(at).map_or(0.0, |&figure| figure as f64)
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub(crate) fn number(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.digits$}"))
}

/// Nanoseconds as milliseconds.
pub(crate) fn milliseconds(nanoseconds: Option<f64>) -> String {
    number(nanoseconds.map(|nanoseconds| nanoseconds / 1e6), 2)
}

/// `12,345`.
fn rate(figure: Option<f64>) -> String {
    let digits = number(figure, 0);
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Date, processor, memory and kernel: without them a figure means nothing.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let gib = number(kib.map(|kib: f64| kib / (1024.0 * 1024.0)), 0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let date = std::process::Command::new("date").args(["-u", "+%F"]).output();
    let date = date.map_or_else(|_| String::new(), |out| String::from_utf8_lossy(&out.stdout).into_owned());
    format!("{} · {cores} cores of {model} · {gib} GiB · Linux {}", date.trim(), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_what_they_are_called() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&sorted, 0.5), percentile(&sorted, 0.99)), (100.0, 198.0));
        assert_eq!(percentile(&[7], 0.99), 7.0);
    }

    #[test]
    fn rates_are_grouped_by_thousands() {
        assert_eq!(rate(Some(1_234_567.4)), "1,234,567");
        assert_eq!(rate(Some(999.0)), "999");
        assert_eq!(rate(None), "–");
    }
}
