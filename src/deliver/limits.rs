//! How much there may be: open changes, changes within an hour, remarks at lines.

use crate::model::finding::{Finding, Standing};
use crate::model::plan::ReviewSpec;

/// Why there may be no further change of ours; `None`: there may be. `own`: the branch that the change would be of;
/// `open`: the branches of our open changes; `recent`: those of our changes that were opened within the last hour.
/// What is there already may always be updated.
pub fn full(own: &str, open: (&[String], Option<u32>), recent: (&[String], Option<u32>)) -> Option<String> {
    let there = |branches: &[String]| branches.iter().any(|branch| branch == own);
    if there(open.0) {
        return None;
    }
    let reached = |(branches, most): (&[String], Option<u32>)| most.filter(|most| branches.len() >= *most as usize);
    if let Some(most) = reached(open) {
        return Some(format!(
            "{} changes of ours are open, and `delivery.open_changes_limit` allows {most}; merge or close some, then \
             run again",
            open.0.len()
        ));
    }
    let most = reached(recent).filter(|_| !there(recent.0))?;
    Some(format!(
        "{} changes of ours were opened within the last hour, and `delivery.changes_per_hour` allows {most}; run again \
         later",
        recent.0.len()
    ))
}

/// Which findings are said at their lines: those that are severe enough, the worst first, at most so many. The other
/// ones are for the summary.
pub fn remarked<'a>(findings: &'a [Finding], review: &ReviewSpec) -> (Vec<&'a Finding>, Vec<&'a Finding>) {
    let open = || findings.iter().filter(|finding| finding.standing != Standing::Resolved);
    let enough = |finding: &&Finding| review.min_level.is_none_or(|least| finding.level >= least);
    let mut at_lines: Vec<&Finding> = open().filter(|finding| finding.line.is_some()).filter(enough).collect();
    // Of the same weight those that stand there already stay: they take no new room.
    at_lines.sort_by_key(|finding| (std::cmp::Reverse(finding.level), finding.standing == Standing::New));
    at_lines.truncate(review.most() as usize);
    let is_in = |finding: &Finding| at_lines.iter().any(|there| std::ptr::eq(*there, finding));
    let rest = open().filter(|finding| !is_in(finding)).collect();
    (at_lines, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::Level;
    use crate::model::id::StepId;

    #[test]
    fn there_are_only_so_many_and_one_that_is_there_is_updated() {
        let branches = ["codeforge/a".to_owned(), "codeforge/b".to_owned()];
        let of = |own, open, recent| full(own, (&branches, open), (&branches[..1], recent));
        assert_eq!(of("codeforge/c", None, None), None);
        assert_eq!(of("codeforge/c", Some(3), Some(2)), None);
        assert_eq!(of("codeforge/a", Some(1), Some(1)), None);
        assert!(of("codeforge/c", Some(2), None).is_some_and(|why| why.contains("open_changes_limit")));
        assert!(of("codeforge/c", Some(0), None).is_some());
        assert!(of("codeforge/c", None, Some(1)).is_some_and(|why| why.contains("changes_per_hour")));
    }

    #[test]
    fn the_worst_are_said_at_their_lines_and_the_rest_is_summed_up() {
        let finding = |level, line, standing| Finding {
            fingerprint: String::new(),
            level,
            file: "a".into(),
            line,
            end_line: None,
            rule: None,
            what: String::new(),
            suggestion: None,
            step: StepId::from("a"),
            standing,
        };
        let findings = [
            finding(Level::Low, Some(1), Standing::New),
            finding(Level::High, None, Standing::New),
            finding(Level::Medium, Some(3), Standing::New),
            finding(Level::Medium, Some(4), Standing::Still),
            finding(Level::High, Some(5), Standing::New),
            finding(Level::High, Some(6), Standing::Resolved),
        ];
        let lines = |found: &[&Finding]| found.iter().map(|it| it.line).collect::<Vec<_>>();
        let (said, rest) = remarked(&findings, &ReviewSpec { max_remarks: Some(2), min_level: Some(Level::Medium) });
        assert_eq!((lines(&said), lines(&rest)), (vec![Some(5), Some(4)], vec![Some(1), None, Some(3)]));
        assert_eq!(remarked(&findings, &ReviewSpec::default()).0.len(), 4);
        assert_eq!(remarked(&findings, &ReviewSpec { max_remarks: Some(0), min_level: None }).0.len(), 0);
    }
}
