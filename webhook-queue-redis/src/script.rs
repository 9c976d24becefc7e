//! The scripts: one for each method of the queue's trait, over one library.
//!
//! `scripts/lib.lua` says what the keys hold. A script reads and checks everything before its first write, works
//! on a bounded number of items, and can be repeated: a claim by its id, a settle by its tokens, everything else
//! by the ids of its jobs.

/// Flags for scripts that must work when the server is out of memory: they free it, or let work go on that does.
macro_rules! script {
    ($name:literal, $flags:literal) => {
        (
            $name,
            concat!(
                "#!lua",
                $flags,
                "\n",
                include_str!("scripts/lib.lua"),
                include_str!(concat!("scripts/", $name, ".lua"))
            ),
        )
    };
}

/// Name and text. A script's place is its number, [`Script`].
pub(crate) const SCRIPTS: [(&str, &str); 10] = [
    script!("enqueue", ""),
    script!("claim", " flags=allow-oom"),
    script!("settle", " flags=allow-oom"),
    script!("extend", " flags=allow-oom"),
    script!("remove", " flags=allow-oom"),
    script!("lanes", " flags=allow-oom"),
    script!("lane_states", " flags=allow-oom"),
    script!("depth", " flags=allow-oom"),
    script!("epoch", " flags=allow-oom"),
    // Without a first line of flags, which servers before 7.0 do not understand: it asks for the version.
    ("check", include_str!("scripts/check.lua")),
];

/// One of [`SCRIPTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Enqueue,
    Claim,
    Settle,
    Extend,
    Remove,
    Lanes,
    LaneStates,
    Depth,
    Epoch,
    Check,
}

/// The keys that every script declares, behind the hash tag.
pub(crate) const KEYS: [&str; 7] = ["meta", "lanes", "jobs", "leases", "ring1", "ring2", "ring3"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_stand_at_their_numbers() {
        for (script, name) in [
            (Script::Enqueue, "enqueue"),
            (Script::Claim, "claim"),
            (Script::Settle, "settle"),
            (Script::Extend, "extend"),
            (Script::Remove, "remove"),
            (Script::Lanes, "lanes"),
            (Script::LaneStates, "lane_states"),
            (Script::Depth, "depth"),
            (Script::Epoch, "epoch"),
            (Script::Check, "check"),
        ] {
            assert_eq!(SCRIPTS[script as usize].0, name);
        }
    }
}
