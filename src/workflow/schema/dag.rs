//! Graphs of steps: order, ancestors, circles. Nodes are indices; an edge goes from a step to one that it needs.

use std::collections::{BTreeSet, HashMap};

/// A graph of steps, in the order in which they were declared.
#[derive(Debug, Clone, Default)]
pub struct Dag {
    names: Vec<String>,
    index: HashMap<String, usize>,
    needs: Vec<Vec<usize>>,
}

impl Dag {
    /// Builds the graph. Needs that name no step are left out: they are a problem of their own.
    pub fn new<'a>(steps: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>) -> Self {
        let steps: Vec<(&str, Vec<&str>)> = steps.into_iter().collect();
        let names: Vec<String> = steps.iter().map(|(name, _)| (*name).to_owned()).collect();
        let index: HashMap<String, usize> = names.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        let needs = steps.iter().map(|(_, needs)| needs.iter().filter_map(|n| index.get(*n).copied()).collect());
        Self { needs: needs.collect(), names, index }
    }

    /// The steps' order: each after its needs, otherwise as declared (Kahn). `Err`: what waits in a circle, as a walk
    /// along needs that ends where it begins (`[a, b, a]`: `a` needs `b`, which needs `a`).
    ///
    /// # Errors
    /// The circle.
    pub fn order(&self) -> Result<Vec<usize>, Vec<String>> {
        let mut open: Vec<usize> = Vec::with_capacity(self.needs.len());
        let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); self.needs.len()];
        for (step, needs) in self.needs.iter().enumerate() {
            let distinct: BTreeSet<usize> = needs.iter().copied().collect();
            open.push(distinct.len());
            for need in distinct {
                if let Some(list) = dependents.get_mut(need) {
                    list.push(step);
                }
            }
        }
        let mut ready: BTreeSet<usize> = open.iter().enumerate().filter(|(_, n)| **n == 0).map(|(i, _)| i).collect();
        let mut order = Vec::with_capacity(open.len());
        while let Some(step) = ready.pop_first() {
            order.push(step);
            for dependent in dependents.get(step).into_iter().flatten() {
                if let Some(count) = open.get_mut(*dependent) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(*dependent);
                    }
                }
            }
        }
        if order.len() == self.needs.len() { Ok(order) } else { Err(self.circle(&order)) }
    }

    /// A circle among the steps that `done` leaves over. Each of those needs another of them, so walking along needs
    /// must come back to a step that was passed before.
    fn circle(&self, done: &[usize]) -> Vec<String> {
        let done: BTreeSet<usize> = done.iter().copied().collect();
        let Some(mut step) = (0..self.needs.len()).find(|step| !done.contains(step)) else { return Vec::new() };
        let mut walk: Vec<usize> = Vec::new();
        loop {
            if let Some(from) = walk.iter().position(|passed| *passed == step) {
                walk.drain(..from);
                walk.push(step);
                return walk.iter().filter_map(|step| self.names.get(*step).cloned()).collect();
            }
            walk.push(step);
            let next = self.needs.get(step).and_then(|needs| needs.iter().find(|need| !done.contains(need)));
            let Some(next) = next else { return Vec::new() };
            step = *next;
        }
    }

    /// All steps that come before `step`, itself not among them (unless it stands in a circle).
    pub fn ancestors(&self, step: usize) -> BTreeSet<usize> {
        let mut seen = BTreeSet::new();
        let mut stack: Vec<usize> = self.needs.get(step).cloned().unwrap_or_default();
        while let Some(next) = stack.pop() {
            if seen.insert(next) {
                stack.extend(self.needs.get(next).into_iter().flatten());
            }
        }
        seen
    }

    /// Who comes before whom, for many questions at once.
    pub fn ancestry(&self) -> Ancestry {
        let words = self.needs.len().div_ceil(WORD);
        let mut ancestry = Ancestry { words, bits: vec![0; words * self.needs.len()] };
        match self.order() {
            // After the needs, a step's row is theirs and they themselves.
            Ok(order) => order.into_iter().for_each(|step| {
                for need in self.needs.get(step).into_iter().flatten() {
                    ancestry.inherit(step, *need);
                    ancestry.mark(step, *need);
                }
            }),
            Err(_) => (0..self.needs.len())
                .for_each(|step| self.ancestors(step).into_iter().for_each(|before| ancestry.mark(step, before))),
        }
        ancestry
    }

    /// A step's index.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// A step's name.
    pub fn name(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// The names, in the order of declaration.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

const WORD: usize = u64::BITS as usize;

/// A table of who comes before whom in a [`Dag`]: a row of bits for each step.
#[derive(Debug, Clone)]
pub struct Ancestry {
    words: usize,
    bits: Vec<u64>,
}

impl Ancestry {
    /// Whether `step` waits for `other`, directly or not. Both are indices of the graph's steps; `false` for others.
    pub fn comes_before(&self, other: usize, step: usize) -> bool {
        other < self.words * WORD
            && self.bits.get(step * self.words + other / WORD).is_some_and(|word| word >> (other % WORD) & 1 == 1)
    }

    fn mark(&mut self, step: usize, before: usize) {
        if let Some(word) = self.bits.get_mut(step * self.words + before / WORD) {
            *word |= 1 << (before % WORD);
        }
    }

    fn inherit(&mut self, step: usize, from: usize) {
        for word in 0..self.words {
            let theirs = self.bits.get(from * self.words + word).copied().unwrap_or_default();
            if let Some(own) = self.bits.get_mut(step * self.words + word) {
                *own |= theirs;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn graph(edges: &[(usize, usize)], size: usize) -> Dag {
        let names: Vec<String> = (0..size).map(|i| format!("s{i}")).collect();
        Dag::new(names.iter().enumerate().map(|(i, name)| {
            let needs = edges.iter().filter(|(from, _)| from % size == i).map(|(_, to)| names[to % size].as_str());
            (name.as_str(), needs.collect())
        }))
    }

    #[test]
    fn a_circle_is_named_as_it_runs() {
        let dag = Dag::new([("plan", vec![]), ("implement", vec!["plan", "review"]), ("review", vec!["implement"])]);
        assert_eq!(dag.order(), Err(vec!["implement".into(), "review".into(), "implement".into()]));
    }

    #[test]
    fn without_edges_the_order_is_the_declared_one() {
        assert_eq!(graph(&[], 5).order(), Ok(vec![0, 1, 2, 3, 4]));
    }

    proptest! {
        #[test]
        fn an_order_respects_edges_and_a_circle_is_real(
            edges in prop::collection::vec((0usize..140, 0usize..140), 0..160),
            size in prop_oneof![1usize..12, 60usize..140],
        ) {
            let dag = graph(&edges, size);
            let ancestry = dag.ancestry();
            for step in 0..size {
                let before: BTreeSet<usize> = (0..size + 70).filter(|other| ancestry.comes_before(*other, step)).collect();
                prop_assert_eq!(before, dag.ancestors(step));
            }
            match dag.order() {
                Ok(order) => {
                    prop_assert_eq!(order.len(), size);
                    let place = |step: usize| order.iter().position(|s| *s == step);
                    for step in 0..size {
                        for need in &dag.needs[step] {
                            prop_assert!(place(*need) < place(step));
                        }
                        prop_assert!(!dag.ancestors(step).contains(&step));
                    }
                }
                Err(circle) => {
                    prop_assert!(circle.len() >= 2);
                    prop_assert_eq!(circle.first(), circle.last());
                    for pair in circle.windows(2) {
                        let (from, to) = (dag.index(&pair[0]).unwrap(), dag.index(&pair[1]).unwrap());
                        prop_assert!(dag.needs[from].contains(&to));
                        prop_assert!(dag.ancestors(from).contains(&from));
                    }
                }
            }
        }
    }
}
