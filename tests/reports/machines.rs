//! Reports for machines: SARIF, code quality, JUnit, annotations.

use crate::made::{HOSTILE, account, facts, finding};
use codeforge::model::finding::{Finding, Level, Standing};
use codeforge::report::ci;
use serde_json::Value;

fn sarif_schema() -> jsonschema::Validator {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bodies/sarif-2.1.0.schema.json")).unwrap();
    // One of its patterns is no regular expression; nothing of ours has that property.
    let text = text.replace("-[a-zA-Z]{2}]?$", "-[a-zA-Z]{2}$");
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[test]
fn machines_read_every_report_whatever_it_holds() {
    let schema = sarif_schema();
    for text in HOSTILE {
        let account = account(text, 2, 2);
        let mut found = vec![finding(text, 1, Level::High), finding(text, 2, Level::Low)];
        found.push(Finding { standing: Standing::Resolved, ..finding(text, 3, Level::High) });
        found.push(Finding { rule: None, line: None, ..finding(text, 4, Level::Medium) });

        let sarif: Value = serde_json::from_str(&ci::sarif(&account, &found, &facts(text), ci::REPORT_CAP)).unwrap();
        let errors: Vec<String> = schema.iter_errors(&sarif).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{text:?}: {errors:#?}");
        assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 3, "what is resolved is not in it");
        let uri = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].clone();
        assert!(!uri.as_str().unwrap().contains([':', ' ', '\\', '<', '\n']), "{uri}");

        let quality: Value = serde_json::from_str(&ci::code_quality(&found, ci::REPORT_CAP)).unwrap();
        assert_eq!(quality.as_array().unwrap().len(), 3);
        for entry in quality.as_array().unwrap() {
            assert!(["info", "minor", "major", "critical", "blocker"].contains(&entry["severity"].as_str().unwrap()));
            assert!(entry["location"]["lines"]["begin"].as_u64().unwrap() >= 1);
            for key in ["description", "check_name", "fingerprint"] {
                assert!(entry[key].is_string(), "{entry:#}");
            }
        }

        let junit = ci::junit(&account, ci::REPORT_CAP);
        let xml = roxmltree::Document::parse(&junit).unwrap_or_else(|error| panic!("{text:?}: {error}\n{junit}"));
        let suites: Vec<_> = xml.descendants().filter(|node| node.has_tag_name("testsuite")).collect();
        assert_eq!(suites.len(), 2);
        for suite in suites {
            let cases = suite.children().filter(|node| node.has_tag_name("testcase")).count();
            assert_eq!(suite.attribute("tests").unwrap(), cases.to_string());
            for (attribute, tag) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
                let count = suite.descendants().filter(|node| node.has_tag_name(tag)).count();
                assert_eq!(suite.attribute(attribute).unwrap(), count.to_string(), "{tag}\n{junit}");
            }
        }

        for annotation in ci::annotations(&found) {
            let line = annotation.github();
            let mut runner = Runner::default();
            runner.read(&line);
            let [(command, properties, data)] = runner.acted.as_slice() else { panic!("{text:?}: {line:?}") };
            assert!(["error", "warning", "notice"].contains(&command.as_str()));
            let keys: Vec<&str> = properties.iter().map(|(key, _)| key.as_str()).collect();
            assert!(keys.iter().all(|key| ["file", "line", "title"].contains(key)), "{text:?}: {keys:?}");
            // What the runner shows is what it unescaped: not a command in its turn.
            data.lines().for_each(|line| Runner::default().must_not_act(line));
            Runner::default().must_not_act(&annotation.plain());
        }
    }
}

/// A command, its properties, its value.
pub type Acted = (String, Vec<(String, String)>, String);

/// GitHub's runner, as far as it reads lines: which commands it would obey.
#[derive(Default)]
pub struct Runner {
    pub acted: Vec<Acted>,
    pub deaf: Option<String>,
}

impl Runner {
    pub fn read(&mut self, line: &str) {
        let trimmed = line.trim_start();
        let command = trimmed.strip_prefix("::").and_then(|rest| rest.split_once("::")).map(|(head, data)| {
            let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
            (name.to_owned(), properties.to_owned(), data.to_owned())
        });
        let old = line.find("##[").and_then(|at| line[at + 3..].split_once(']')).map(|(head, data)| {
            let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
            (name.to_owned(), properties.to_owned(), data.to_owned())
        });
        let Some((name, properties, data)) = command.or(old) else { return };
        if let Some(token) = &self.deaf {
            if *token == name {
                self.deaf = None;
            }
            return;
        }
        if name == "stop-commands" {
            self.deaf = Some(data);
            return;
        }
        let unescape = |text: &str| {
            text.replace("%0D", "\r").replace("%0A", "\n").replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
        };
        let properties = properties.split(',').filter_map(|pair| pair.split_once('='));
        let properties = properties.map(|(key, value)| (key.to_owned(), unescape(value))).collect();
        self.acted.push((name, properties, unescape(&data)));
    }

    fn must_not_act(&mut self, line: &str) {
        self.read(line);
        assert!(self.acted.is_empty() && self.deaf.is_none(), "{line:?} acts: {:?}", self.acted);
    }
}

#[test]
fn annotations_are_escaped_as_the_runner_unescapes_and_end_where_it_stops_showing() {
    let one = Finding {
        file: "src/a,b:c.rs".into(),
        what: "100 % wrong:\nsee `x`, y".into(),
        rule: Some("CWE-89".into()),
        suggestion: None,
        ..finding("x", 6, Level::High)
    };
    assert_eq!(
        ci::annotations(&[one])[0].github(),
        "::error file=src/a%2Cb%3Ac.rs,line=7,title=CodeForge CWE-89::100 %25 wrong:%0Asee `x`, y"
    );
    let many: Vec<Finding> = (0..30).map(|at| finding("x", at, Level::Medium)).collect();
    let all = ci::annotations(&many);
    assert_eq!(all.len(), 10);
    assert!(all[9].message.starts_with("21 more"), "{:?}", all[9]);
}
