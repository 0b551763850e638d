//! Linux namespaces of their own for what is tested: file systems that may be full, a network that may go away.

use std::env;
use std::process::Command;

use crate::support::leave_out;

/// Says that it is a failure if there are none here.
const REQUIRED: &str = "PINSTREAM_TEST_NAMESPACES";

/// The command line that puts a program into a namespace of its own, of the kind that this flag of `unshare` says, where
/// it may do what `trial` does. `None` where there is none, unless `PINSTREAM_TEST_NAMESPACES` says that there must be.
pub fn namespace(flag: &'static str, trial: &[&str]) -> Option<Vec<&'static str>> {
    let required = env::var(REQUIRED).unwrap_or_default();
    assert!(["", "required"].contains(&required.as_str()), "{REQUIRED} can only be `required`");
    let mut ways = [vec!["unshare", "--user", "--map-root-user", flag], vec!["unshare", flag]].into_iter();
    let way = ways.find(|way| {
        let tried = Command::new(way[0]).args(&way[1..]).args(trial).output();
        tried.is_ok_and(|output| output.status.success())
    });
    if way.is_none() {
        let missing = format!("`{}` cannot be done here: no unshare, or no right to use it", trial.join(" "));
        assert!(required.is_empty(), "{missing}");
        leave_out(&missing);
    }
    way
}
