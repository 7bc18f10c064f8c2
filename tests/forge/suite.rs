//! One suite for all of them.

/// Each scenario at every forge; with `remote`: at those that are asked over HTTP. `multi_thread`: the fake's git runs
/// beside what waits for it.
macro_rules! everywhere {
    ($($name:ident => $story:ident $($remote:ident)?;)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let remote = 0 $(+ { let $remote = 1; $remote })? == 1;
            for kind in crate::story::KINDS {
                if !remote || kind != crate::story::ForgeKind::Local {
                    $story(kind).await;
                }
            }
        }
    )* };
}
