//! The title of a commit that is made here, as the repository writes its titles. What a forge publishes is titled where
//! it is published: by the history of the branch that it goes to.

use crate::deliver;
use crate::model::delivery::{ChangeSet, Delivery};
use crate::model::journal::Base;
use crate::model::plan::{Convention, DeliverKind, Plan};
use crate::port::repository::Repository;

/// A delivery that makes a commit here, with its title in the convention of the commits that it stands on: the same
/// however often it is made. Any other is as it was, and so is one whose history cannot be read.
pub fn in_convention(repository: &dyn Repository, plan: &Plan, base: &Base, delivery: Delivery) -> Delivery {
    let convention = plan.deliver.forge.convention;
    let commits = matches!(delivery.kind, DeliverKind::CommitLocal | DeliverKind::Branch);
    if !commits || convention == Convention::AsWritten {
        return delivery;
    }
    // How others write is no reason to write nothing.
    let read = || {
        let subjects = repository.subjects(base.commit.as_ref()?, deliver::LOOKED_AT).ok()?;
        Some((subjects, paths(repository.diff(&delivery.base, &delivery.tree, 1).ok()?)))
    };
    let Some((subjects, paths)) = read() else { return delivery };
    let hint = deliver::Hint { workflow: &plan.workflow, paths: &paths };
    let title = deliver::titled(&delivery.title, &deliver::style(convention, &subjects), &hint);
    Delivery { title, ..delivery }
}

/// The paths that change, old names too.
pub(super) fn paths(changes: ChangeSet) -> Vec<String> {
    changes.files.into_iter().flat_map(|file| [Some(file.path), file.from]).flatten().collect()
}
