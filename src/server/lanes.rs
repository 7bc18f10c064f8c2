//! Repositories that are looked after at the same time: one thing at a time for each, so many at once, and of one forge no
//! more than there are places left. A forge that hangs keeps its own repositories waiting and nobody else.

use super::parts::Parts;
use crate::model::job::Served;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Repositories that are looked after at once.
const PLACES: usize = 16;
/// What was begun may come to its end within this time when the server stops.
const LAST: Duration = Duration::from_secs(5);

/// The repositories that somebody is at work for.
#[derive(Default)]
pub(super) struct Lanes(Vec<Served>);

impl Lanes {
    /// Whether a repository may be looked after: nobody is at it, and its forge has not as many places as are left.
    pub(super) fn has_room(&self, served: &Served) -> bool {
        let of_forge = self.0.iter().filter(|it| it.host == served.host).count();
        of_forge < self.left() && !self.0.contains(served)
    }

    /// How many places are left.
    pub(super) fn left(&self) -> usize {
        PLACES.saturating_sub(self.0.len())
    }

    /// Who has a place.
    pub(super) fn at_work(&self) -> &[Served] {
        &self.0
    }

    /// Somebody is at work for a repository.
    pub(super) fn enter(&mut self, served: Served) {
        self.0.push(served);
    }

    /// Nobody is any more.
    pub(super) fn leave(&mut self, served: &Served) {
        self.0.retain(|it| it != served);
    }
}

/// Waits for something, and lets work go on meanwhile: it may have what is waited for, a turn at the database. `ended` is told
/// of what came to its end.
pub(super) async fn meanwhile<T, F: Future>(
    what: impl Future<Output = T>,
    at_work: &mut FuturesUnordered<F>,
    mut ended: impl FnMut(F::Output),
) -> T {
    tokio::pin!(what);
    loop {
        tokio::select! {
            done = &mut what => return done,
            Some(out) = at_work.next() => ended(out),
        }
    }
}

/// Lets what is under way come to its end, and not for long.
pub(super) async fn last<F: Future>(mut at_work: FuturesUnordered<F>) {
    let _ = tokio::time::timeout(LAST, async { while at_work.next().await.is_some() {} }).await;
}

/// Does something for each repository that is served, again and again with a pause in between, until `stop`.
pub(super) async fn each<F: Future<Output = ()>>(
    parts: &Parts<'_>,
    stop: &CancellationToken,
    pause: impl Fn() -> Duration,
    does: impl Fn(Served) -> F,
) {
    let mut lanes = Lanes::default();
    let mut at_work = FuturesUnordered::new();
    let mut ended: BTreeMap<Served, Instant> = BTreeMap::new();
    while !stop.is_cancelled() {
        let (now, pause) = (Instant::now(), pause());
        let mut soon = pause;
        for served in (parts.settings)().repositories.iter().map(|it| it.served()) {
            let wait = ended.get(&served).map_or(Duration::ZERO, |at| (*at + pause).saturating_duration_since(now));
            if !wait.is_zero() {
                soon = soon.min(wait);
            } else if lanes.has_room(&served) {
                lanes.enter(served.clone());
                let work = does(served.clone());
                at_work.push(async move {
                    work.await;
                    served
                });
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(served) = at_work.next() => {
                lanes.leave(&served);
                ended.insert(served, Instant::now());
            }
            () = tokio::time::sleep(soon) => {}
        }
    }
    last(at_work).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::forge::ForgeKind;

    /// A forge with a hundred repositories that all hang leaves room for the others, and those for more.
    #[test]
    fn no_forge_takes_all_places() {
        let mut lanes = Lanes::default();
        let most = ["one.example", "two.example", "three.example"].map(|host| {
            let taken = (0..100).take_while(|n| {
                let served = Served { forge: ForgeKind::Gitea, host: host.into(), name: format!("acme/{n}") };
                let room = lanes.has_room(&served);
                if room {
                    lanes.enter(served);
                }
                room
            });
            taken.count()
        });
        assert_eq!(most, [8, 4, 2]);
        // Where there is room for much: one thing at a time for each repository.
        let of = |name: &str| Served { forge: ForgeKind::Gitea, host: "four.example".into(), name: name.into() };
        let (first, second) = (of("acme/0"), of("acme/1"));
        let mut lanes = Lanes::default();
        lanes.enter(first.clone());
        assert!(!lanes.has_room(&first) && lanes.has_room(&second));
        lanes.enter(second.clone());
        lanes.leave(&first);
        assert!(lanes.has_room(&first) && !lanes.has_room(&second));
    }
}
