//! Hostile input on a real host: what somebody writes into a plan, a secret or a statement gets nobody further.

use std::collections::BTreeMap;

use seawall::engine::file::PlanFile;
use seawall::plan::Plan;
use seawall::plan::step::{HostStep, Steps};

use crate::support::rehearsal::Rehearsal;

/// What a forged plan would leave on the server if it ran.
const TRACE: &str = "/run/forged-plan";

/// A step under the name of a harmless one.
fn inserted() -> HostStep {
    HostStep::Run {
        argv: ["sh", "-c", &format!("id >{TRACE}")].map(str::to_owned).into(),
        env: BTreeMap::new(),
        stdin: None,
        timeout_s: 60,
        revert: None,
        what: "reload ssh.service".to_owned(),
    }
}

/// Somebody who can write to the folder of plans inserts a step under a harmless name and makes the digest fit.
#[test]
fn a_forged_plan_runs_nothing_and_shows_what_it_would() {
    let Some(lab) = Rehearsal::base("a_forged_plan_runs_nothing_and_shows_what_it_would") else { return };
    lab.on_server(&["sysctl", "-qw", "net.ipv4.tcp_syncookies=0"]);
    let honest = lab.path().join("plans/honest.json");
    lab.expect(2, &["--sandbox", "plan", "--out", &honest.display().to_string()]);
    let PlanFile { header, plan, .. } = PlanFile::read(&honest).expect("a saved plan");
    let forge = |name: &str, change: &dyn Fn(&mut Vec<HostStep>)| {
        let mut plan: Plan = plan.clone();
        let steps = plan.stages.iter_mut().flat_map(|stage| &mut stage.changes).find_map(|change| {
            let Steps::Host(steps) = &mut change.steps else { return None };
            Some(steps)
        });
        change(steps.expect("a change on the host"));
        let path = lab.path().join("plans").join(name);
        PlanFile::new(header.clone(), plan).save(&path).expect("there is none of this name");
        path.display().to_string()
    };
    let last = |steps: &mut Vec<HostStep>| steps.insert(steps.len() - 1, inserted());
    let instead = |steps: &mut Vec<HostStep>| steps[0] = inserted();
    for forged in [forge("last.json", &last), forge("instead.json", &instead)] {
        let shown = lab.expect(0, &["show", "-v", &forged]).stdout;
        assert!(shown.contains(&format!("argv: sh -c 'id >{TRACE}'")), "{shown}");
        let refused = lab.expect(4, &["--sandbox", "apply", &forged]);
        assert!(refused.stderr.contains("error[plan-differs]") && refused.stderr.contains(TRACE), "{}", refused.stderr);
        lab.on_server(&["test", "!", "-e", TRACE]);
    }
    // Refusing does not use a plan up, and the honest one does what it shows.
    lab.expect(0, &["--sandbox", "apply", &honest.display().to_string()]);
    lab.expect(0, &["--sandbox", "plan"]);
    lab.on_server(&["test", "!", "-e", TRACE]);
}
