//! Which experience of earlier runs is worth showing, and which is worth keeping.
//!
//! A score has three parts, each from 0 to 1: how much the tasks' words are alike (`semantic`: the cosine of their TF-IDF
//! vectors, see [`super::bm25::cosine`]), how lately it was (`recency`: halved with each half-life), how much there was to
//! learn (`importance`, decided when it was kept). It is their sum by weights that come to 1, so it is from 0 to 1 too.

use super::bm25::cosine;
use super::{estimate_tokens, experience};
use crate::model::experience::{Experience, ExperienceSpec, Recalled, Weights};

/// How much of its recency something has after `age_ms` milliseconds: 1 now, 0.5 after a half-life, 0.25 after two.
/// What is from the future (a clock was set back) counts as now.
pub fn recency(age_ms: i64, half_life_ms: u64) -> f64 {
    0.5_f64.powf(age_ms.max(0) as f64 / half_life_ms.max(1) as f64)
}

/// The weighted sum of the parts. Parts beyond 0 to 1 count as the nearer end.
pub fn score(semantic: f64, recency: f64, importance: f64, weights: &Weights) -> f64 {
    let part = |part: f64, weight: f64| if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) * weight };
    let sum = part(semantic, weights.semantic) + part(recency, weights.recency) + part(importance, weights.importance);
    sum.clamp(0.0, 1.0)
}

/// What of the pool a step in `mode` with this task is shown, the best first: of the same mode, with at least one word
/// in common, of at least `spec.threshold`, at most `spec.keep`, within `spec.max_tokens`.
pub fn recall(pool: &[Experience], mode: &str, task: &str, now_ms: i64, spec: &ExperienceSpec) -> Vec<Recalled> {
    let pool: Vec<&Experience> = pool.iter().filter(|entry| entry.mode == mode).collect();
    let texts: Vec<&str> = pool.iter().map(|entry| entry.task.as_str()).collect();
    let mut found: Vec<Recalled> = cosine(task, &texts)
        .into_iter()
        .zip(pool)
        .filter(|(semantic, _)| *semantic > 0.0)
        .map(|(semantic, entry)| {
            let recency = recency(now_ms.saturating_sub(entry.at_ms), spec.half_life_ms);
            let score = score(semantic, recency, entry.importance, &spec.weights);
            Recalled { score, experience: entry.clone() }
        })
        .filter(|found| found.score >= spec.threshold)
        .collect();
    found.sort_by(|a, b| {
        let newer = || b.experience.at_ms.cmp(&a.experience.at_ms);
        b.score.total_cmp(&a.score).then_with(newer).then_with(|| a.experience.id.cmp(&b.experience.id))
    });
    let mut room = spec.max_tokens;
    found.retain(|found| {
        let size = estimate_tokens(&experience::words(std::slice::from_ref(found)));
        let fits = size <= room;
        room -= if fits { size } else { 0 };
        fits
    });
    found.truncate(spec.keep);
    found
}

/// The names of what has to go once `new` is in the pool: an older one of the same task and mode, and beyond
/// `spec.max_entries` those of the least worth. Worth is recency and importance, by their weights; likeness needs a task.
pub fn surplus(pool: &[Experience], new: &[Experience], now_ms: i64, spec: &ExperienceSpec) -> Vec<String> {
    let replaced =
        |old: &Experience| new.iter().any(|new| new.id == old.id || (new.mode == old.mode && new.task == old.task));
    let mut gone: Vec<String> = pool.iter().filter(|old| replaced(old)).map(|old| old.id.clone()).collect();
    gone.retain(|id| !new.iter().any(|new| new.id == *id));
    let worth = |entry: &Experience| {
        let recency = recency(now_ms.saturating_sub(entry.at_ms), spec.half_life_ms);
        spec.weights.recency * recency + spec.weights.importance * entry.importance
    };
    let mut left: Vec<&Experience> = pool.iter().filter(|old| !replaced(old)).chain(new).collect();
    left.sort_by(|a, b| {
        worth(b).total_cmp(&worth(a)).then_with(|| b.at_ms.cmp(&a.at_ms)).then_with(|| a.id.cmp(&b.id))
    });
    gone.extend(left.into_iter().skip(spec.max_entries).map(|entry| entry.id.clone()));
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    fn entry(id: &str, task: &str, days_ago: i64, importance: f64) -> Experience {
        Experience {
            id: id.into(),
            run: id.split('.').next().unwrap_or_default().into(),
            step: "code".into(),
            mode: "coder".into(),
            at_ms: 1_000 * DAY - days_ago * DAY,
            task: task.into(),
            conclusion: "Done.".into(),
            files: vec![],
            commands: vec![],
            gates: vec![],
            importance,
        }
    }

    fn names(found: &[Recalled]) -> Vec<&str> {
        found.iter().map(|found| found.experience.id.as_str()).collect()
    }

    #[test]
    fn the_likest_of_the_same_mode_is_shown_above_the_threshold_and_within_its_room() {
        let parser = "parse() drops the last field of a line without a line feed";
        let mut pool = vec![
            entry("aaaa.code", parser, 90, 0.5),
            entry("bbbb.code", "parse() drops the first field of a quoted line", 1, 0.75),
            entry("cccc.code", "Render the diagram as SVG with a legend", 0, 1.0),
            entry("dddd.look", parser, 0, 1.0),
        ];
        pool[3].mode = "reviewer".into();
        let spec = ExperienceSpec::default();
        let task = "parse() drops the last field of a quoted line";
        let ask = |spec: &ExperienceSpec| recall(&pool, "coder", task, 1_000 * DAY, spec);
        assert_eq!(names(&ask(&spec)), ["bbbb.code"], "the old one scores below 0.6, the diagram is something else");
        let words_alone = Weights { semantic: 1.0, recency: 0.0, importance: 0.0 };
        let by_words = ExperienceSpec { threshold: 0.4, weights: words_alone, ..spec.clone() };
        assert_eq!(names(&ask(&by_words)), ["bbbb.code", "aaaa.code"]);
        assert_eq!(ask(&ExperienceSpec { threshold: 0.0, keep: 1, ..spec.clone() }).len(), 1);
        assert!(ask(&ExperienceSpec { max_tokens: 100, ..spec.clone() }).is_empty(), "it does not fit");
        assert!(
            recall(&pool, "coder", "Übersetzung", 1_000 * DAY, &ExperienceSpec { threshold: 0.0, ..spec }).is_empty()
        );
    }

    #[test]
    fn old_and_unimportant_ones_fall_out_and_a_newer_one_takes_the_place_of_the_same_task() {
        let pool = vec![
            entry("a.code", "one", 300, 0.5),
            entry("b.code", "two", 1, 0.5),
            entry("c.code", "three", 300, 1.0),
            entry("d.code", "four", 2, 0.75),
        ];
        let spec = ExperienceSpec { max_entries: 4, ..ExperienceSpec::default() };
        let new = [entry("e.code", "five", 0, 0.5)];
        assert_eq!(surplus(&pool, &new, 1_000 * DAY, &spec), ["a.code"]);
        let again = [entry("e.code", "four", 0, 0.5)];
        assert_eq!(surplus(&pool, &again, 1_000 * DAY, &spec), ["d.code"]);
        let same = [entry("b.code", "two", 0, 0.5)];
        assert!(surplus(&pool, &same, 1_000 * DAY, &spec).is_empty(), "it is written over");
    }

    proptest! {
        #[test]
        fn a_score_is_a_share_and_grows_with_each_of_its_parts(
            parts in prop::array::uniform3(-0.5f64..1.5), more in prop::array::uniform3(0.0f64..0.5),
            semantic in 0.0f64..1.0, share in 0.0f64..1.0, ages in prop::array::uniform2(-5i64..4_000),
        ) {
            let recent = (1.0 - semantic) * share;
            let weights = Weights { semantic, recency: recent, importance: 1.0 - semantic - recent };
            prop_assert!(weights.are_shares());
            let at = |p: [f64; 3]| score(p[0], p[1], p[2], &weights);
            let low = at(parts);
            prop_assert!((0.0..=1.0).contains(&low));
            for place in 0..3 {
                let mut raised = parts;
                raised[place] += more[place];
                prop_assert!(at(raised) >= low, "part {place}");
            }
            prop_assert!((at([1.0; 3]) - 1.0).abs() < 1e-6 && at([0.0; 3]) == 0.0);
            let [a, b] = ages.map(|days| recency(days * DAY, 30 * DAY as u64));
            prop_assert!((0.0..=1.0).contains(&a) && ((ages[0] <= ages[1]) <= (a >= b)));
            prop_assert!((recency(30 * DAY, 30 * DAY as u64) - 0.5).abs() < 1e-12);
        }
    }
}
