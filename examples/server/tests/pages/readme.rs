//! The README's tour.

use super::answers::Ids;
use super::page::{Step, steps};
use super::shell::Shell;

const README: &str = include_str!("../../../../README.md");

#[test]
fn the_tour_prints_what_the_readme_shows() {
    let start = README.find("## A tour").expect("the README has a tour");
    let end = README.find("## Run it").expect("the tour ends");
    let steps = steps(&README[start..end]);
    assert!(steps.len() > 10, "the tour was found");
    let mut shell = Shell::start(&["8080", "9000"]);
    let mut ids = Ids::default();
    for step in steps {
        let Step::Command { command, shown } = step else { panic!("the tour has commands alone: {step:?}") };
        // What a reader does by these was done.
        if command == "cargo build" || command.starts_with("export PATH=") {
            continue;
        }
        let printed = shell.run(&command);
        ids.compare(&shown, &printed)
            .unwrap_or_else(|why| panic!("`{command}`: {why}; it printed:\n{printed}"));
    }
}
