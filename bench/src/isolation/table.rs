//! The figures of the phases as Markdown: medians over the rounds, each ratio taken within its round.

use std::fmt;

use super::disturbance::Phase;
use super::{Felt, PACE};
use crate::arguments::Arguments;
use crate::report::{machine, median, milliseconds, number, percentile};

/// The p99 beside a disturbance is to be less than this many times the one alone, and less than a second.
const MOST_GROWTH: f64 = 2.0;
const MOST: f64 = 1e9;

#[derive(Debug)]
pub(super) struct Table {
    arguments: Arguments,
    machine: String,
    runs: Vec<(u32, Phase, Felt)>,
}

pub(super) fn in_short(felt: &Felt) -> String {
    let [p50, p99, max] =
        [0.5, 0.99, 1.0].map(|share| milliseconds(Some(percentile(&felt.delivered, share))));
    let over = felt.delivered.iter().filter(|&&latency| latency as f64 >= MOST).count();
    format!(
        "p50 {p50} ms, p99 {p99}, max {max} (sent in second {}), {over} over 1 s; {} missing, {} duplicates, {} \
         altered; {} requests beside",
        felt.worst_second, felt.missing, felt.duplicates, felt.altered, felt.beside
    )
}

impl Table {
    pub(super) fn new(arguments: &Arguments) -> Self {
        Self { arguments: arguments.clone(), machine: machine(), runs: Vec::new() }
    }

    pub(super) fn add(&mut self, round: u32, phase: Phase, felt: Felt) {
        self.runs.push((round, phase, felt));
    }

    fn of(&self, phase: Phase) -> Vec<(u32, &Felt)> {
        let runs = self.runs.iter().filter(|(_, known, _)| *known == phase);
        runs.map(|(round, _, felt)| (*round, felt)).collect()
    }

    /// How many times the p99 of the same round alone; none where that failed.
    fn growth(&self, round: u32, felt: &Felt) -> Option<f64> {
        let (_, alone) = self.of(Phase::Alone).into_iter().find(|(known, _)| *known == round)?;
        Some(percentile(&felt.delivered, 0.99) / percentile(&alone.delivered, 0.99).max(1.0))
    }

    /// In every round; none when there is nothing to compare with.
    fn holds(&self, runs: &[(u32, &Felt)]) -> Option<bool> {
        runs.iter().try_fold(true, |holds, (round, felt)| {
            let growth = self.growth(*round, felt)?;
            Some(holds && felt.is_clean() && growth < MOST_GROWTH && percentile(&felt.delivered, 0.99) < MOST)
        })
    }

    fn row(&self, phase: Phase, runs: &[(u32, &Felt)]) -> String {
        let each = |figure: &dyn Fn(&Felt) -> f64| -> Vec<f64> {
            runs.iter().map(|(_, felt)| figure(felt)).collect()
        };
        let sum =
            |count: &dyn Fn(&Felt) -> usize| -> usize { runs.iter().map(|(_, felt)| count(felt)).sum() };
        let most = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
        let least = |figures: &[f64]| figures.iter().copied().fold(f64::INFINITY, f64::min);
        let p99 = each(&|felt| percentile(&felt.delivered, 0.99));
        let growths: Vec<f64> = runs.iter().filter_map(|(round, felt)| self.growth(*round, felt)).collect();
        let beside = each(&|felt| felt.beside as f64);
        let cells = [
            phase.name().to_owned(),
            milliseconds(median(&each(&|felt| percentile(&felt.delivered, 0.5)))),
            format!(
                "{} ({}–{})",
                milliseconds(median(&p99)),
                milliseconds(Some(least(&p99))),
                milliseconds(Some(most(&p99)))
            ),
            milliseconds(Some(most(&each(&|felt| percentile(&felt.delivered, 1.0))))),
            number(median(&growths), 2),
            milliseconds(median(&each(&|felt| percentile(&felt.acknowledged, 0.99)))),
            sum(&|felt| felt.missing).to_string(),
            sum(&|felt| felt.duplicates).to_string(),
            sum(&|felt| felt.altered).to_string(),
            number(median(&beside), 0),
            number(median(&each(&|felt| felt.cores)), 2),
            match self.holds(runs) {
                _ if phase == Phase::Alone => "–",
                None => "not comparable",
                Some(true) => "yes",
                Some(false) => "**no**",
            }
            .to_owned(),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

const HEAD: &str = "\
| beside | p50 ms | p99 ms (least–most) | max ms | p99, times alone | acknowledged p99 ms | missing | duplicates | altered | requests beside | server, cores | holds |
|---|---|---|---|---|---|---|---|---|---|---|---|";

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments = &self.arguments;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "Healthy: {PACE} events/s for {} s a phase, end to end; {} round(s), medians; the server's default settings; \
             {}. Holds: p99 less than {MOST_GROWTH} times alone and under 1 s in every round, nothing missing, \
             doubled or altered.{}\n",
            arguments.phase_seconds,
            arguments.runs,
            arguments.layout().title(),
            if arguments.quick { " A quick run: not to be quoted." } else { "" }
        )?;
        writeln!(f, "{HEAD}")?;
        for phase in Phase::ALL {
            let runs = self.of(phase);
            if !runs.is_empty() {
                writeln!(f, "{}", self.row(phase, &runs))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn felt(milliseconds: u64) -> Felt {
        Felt {
            delivered: vec![milliseconds * 1_000_000; 100],
            acknowledged: vec![1; 100],
            worst_second: 0,
            missing: 0,
            duplicates: 0,
            altered: 0,
            beside: 1,
            cores: 0.1,
        }
    }

    fn table(runs: impl IntoIterator<Item = (u32, Phase, Felt)>) -> Table {
        let line = "--isolation --server x".split(' ').map(str::to_owned);
        let Ok(crate::arguments::Parsed::Run(arguments)) = crate::arguments::parse(line) else {
            panic!("not a run")
        };
        Table { arguments, machine: String::new(), runs: runs.into_iter().collect() }
    }

    fn holds(runs: impl IntoIterator<Item = (u32, Phase, Felt)>) -> Option<bool> {
        let table = table(runs);
        table.holds(&table.of(Phase::Dead))
    }

    #[test]
    fn it_holds_only_when_it_does_in_every_round() {
        let alone = |round| (round, Phase::Alone, felt(10));
        let dead = |round, milliseconds| (round, Phase::Dead, felt(milliseconds));
        assert_eq!(holds([alone(1), dead(1, 19)]), Some(true));
        assert_eq!(holds([alone(1), dead(1, 20)]), Some(false));
        assert_eq!(holds([alone(1), alone(2), dead(1, 19), dead(2, 30)]), Some(false));
        assert_eq!(holds([alone(2), dead(1, 19)]), None);
    }

    #[test]
    fn it_does_not_hold_over_a_second_or_with_a_delivery_missing() {
        assert_eq!(holds([(1, Phase::Alone, felt(900)), (1, Phase::Dead, felt(1_000))]), Some(false));
        let missing = Felt { missing: 1, ..felt(10) };
        assert_eq!(holds([(1, Phase::Alone, felt(10)), (1, Phase::Dead, missing)]), Some(false));
    }
}
