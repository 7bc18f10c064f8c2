//! What our texts are known by: a mark, our account, and a signature where there is a key.

use super::http::{Failed, Http};
use super::lines::suggestion;
use super::same_text;
use crate::port::forge::{
    CommentInfo, ForgeAt, ForgeError, IssueInfo, IssueText, Kept, LineSide, Remark, Sticky, Stuck, Thread,
};
use crate::text;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::future::Future;

/// Our marks in one repository.
pub(super) struct Marks {
    repository: String,
    secret: Option<String>,
}

impl Marks {
    pub(super) fn new(at: &ForgeAt) -> Self {
        let secret = at.marker_key.as_ref().map(|key| key.expose_secret().to_owned());
        Self { repository: at.repository.clone(), secret: secret.filter(|secret| !secret.is_empty()) }
    }

    fn place(&self, thread: Thread) -> String {
        match thread {
            Thread::Change(number) => format!("{} change {number}", self.repository),
            Thread::Issue(number) => format!("{} issue {number}", self.repository),
        }
    }

    /// Where issues stand: which number one will have nobody knows before it is made.
    fn issues(&self) -> String {
        format!("{} issues", self.repository)
    }

    /// A text under its mark.
    pub(super) fn under(&self, thread: Thread, key: &str, body: &str) -> String {
        self.marked(&self.place(thread), key, body, None)
    }

    fn marked(&self, place: &str, key: &str, body: &str, memory: Option<&str>) -> String {
        let secret = self.secret.as_deref();
        let mark = text::marker(key, place, secret);
        match memory {
            None => format!("{mark}\n{body}"),
            Some(memory) => format!("{mark}\n{}\n\n{body}", text::remembering(memory, key, place, secret)),
        }
    }

    /// A comment that there is one of.
    pub(super) fn sticky(&self, sticky: &Sticky<'_>) -> String {
        self.marked(&self.place(sticky.thread), sticky.key, sticky.body, sticky.memory)
    }

    /// An issue's text.
    pub(super) fn issue(&self, text: IssueText<'_>) -> String {
        match text {
            IssueText::Kept { key, body, memory } => self.marked(&self.issues(), key, body, memory),
            IssueText::Plain(body) => body.to_owned(),
        }
    }

    /// The issues of a key among some, the first that was made first, with what they remember. Asked after [`Self::can_know`].
    pub(super) fn kept(
        &self,
        own: Option<&str>,
        key: &str,
        issues: impl IntoIterator<Item = IssueInfo>,
    ) -> Vec<IssueInfo> {
        let place = self.issues();
        let mut ours: Vec<IssueInfo> = issues
            .into_iter()
            .filter(|it| self.is_at((own, it.author.as_deref()), &place, key, &it.body))
            .map(|it| {
                let memory = text::remembered(&it.body, key, &place, self.secret.as_deref()).map(str::to_owned);
                IssueInfo { memory, ..it }
            })
            .collect();
        ours.sort_by_key(|it| it.number);
        ours
    }

    /// What comments of ours remember, by key.
    pub(super) fn memories(
        &self,
        own: Option<&str>,
        thread: Thread,
        keys: &[&str],
        comments: &[CommentInfo],
    ) -> Result<BTreeMap<String, String>, ForgeError> {
        self.can_know(own)?;
        let place = self.place(thread);
        let of = |key: &&str| {
            let ours = |it: &&CommentInfo| self.is((own, it.author.as_deref()), thread, key, &it.body);
            let comment = comments.iter().find(ours)?;
            let memory = text::remembered(&comment.body, key, &place, self.secret.as_deref())?;
            Some(((*key).to_owned(), memory.to_owned()))
        };
        Ok(keys.iter().filter_map(of).collect())
    }

    /// A remark's text under its mark, with the text to put there, where there is one, in a block of this word.
    pub(super) fn remark(&self, number: u64, remark: &Remark, word: &str) -> String {
        let body = self.under(Thread::Change(number), &remark.key, &remark.body);
        match (&remark.replacement, remark.side) {
            (Some(text), LineSide::New) => format!("{body}\n\n{}", suggestion(word, text)),
            _ => body,
        }
    }

    /// Whether a text is ours: by our mark and our account; where the forge does not say who we are, by our signature.
    pub(super) fn is(&self, by: (Option<&str>, Option<&str>), thread: Thread, key: &str, body: &str) -> bool {
        self.is_at(by, &self.place(thread), key, body)
    }

    fn is_at(&self, by: (Option<&str>, Option<&str>), place: &str, key: &str, body: &str) -> bool {
        let ours = match by {
            (Some(own), Some(author)) => own.eq_ignore_ascii_case(author),
            (Some(_), None) => false,
            (None, _) => self.secret.is_some(),
        };
        ours && text::is_marked(body, key, place, self.secret.as_deref())
    }

    /// What is to be found again must be known again: without that, every run would make another one.
    pub(super) fn can_know(&self, own: Option<&str>) -> Result<(), ForgeError> {
        if own.is_some() || self.secret.is_some() {
            return Ok(());
        }
        Err(ForgeError::Unsupported(
            "the forge does not say whose the token is, so our comments could not be told from others'; set \
             CODEFORGE_MARKER_KEY to a long random text, by which they are signed"
                .into(),
        ))
    }

    /// The comment of ours among `comments` that there is one of: the first that was made, where two stand.
    pub(super) fn find(
        &self,
        own: Option<&str>,
        (thread, key): (Thread, &str),
        comments: Vec<CommentInfo>,
    ) -> Result<Option<CommentInfo>, ForgeError> {
        self.can_know(own)?;
        let ours = |it: &CommentInfo| self.is((own, it.author.as_deref()), thread, key, &it.body);
        Ok(comments.into_iter().filter(ours).min_by_key(|it| it.id))
    }

    /// The same, without our marks.
    pub(super) fn stuck(
        &self,
        own: Option<&str>,
        thread: Thread,
        key: &str,
        comments: Vec<CommentInfo>,
    ) -> Result<Option<Kept>, ForgeError> {
        let Some(comment) = self.find(own, (thread, key), comments)? else { return Ok(None) };
        let memory = text::remembered(&comment.body, key, &self.place(thread), self.secret.as_deref());
        let lines = 1 + memory.map_or(0, |_| 1 + usize::from(self.secret.is_some()));
        let body = comment.body.lines().skip(lines).collect::<Vec<_>>().join("\n").trim().to_owned();
        Ok(Some(Kept { body, memory: memory.map(str::to_owned) }))
    }
}

/// Makes a comment that there is one of, or brings it up to date. `body`: with its mark; `look` finds it, `make` makes
/// it, `update` gives the one of a number this text, `remove` takes the one of a number away.
///
/// Two that look at the same moment both find none, and both make one. Whoever made one looks again: the first one stays,
/// for everybody who looks, and gets the text; one's own goes. Nothing is ever removed that was not made a moment ago.
pub(super) async fn stick<L, LF, M, MF, U, UF, R, RF>(
    http: &Http,
    body: &str,
    look: L,
    make: M,
    update: U,
    remove: R,
) -> Result<Stuck, ForgeError>
where
    L: Fn() -> LF,
    LF: Future<Output = Result<Option<CommentInfo>, ForgeError>>,
    M: Fn() -> MF,
    MF: Future<Output = Result<CommentInfo, Failed>>,
    U: FnOnce(u64) -> UF,
    UF: Future<Output = Result<(), Failed>>,
    R: FnOnce(u64) -> RF,
    RF: Future<Output = Result<(), Failed>>,
{
    let (mut comment, mut created) = http.once_only(&look, make).await?;
    // What cannot be looked at now is looked at when it is brought up to date.
    if created
        && let Ok(Some(first)) = look().await
        && first.id != comment.id
    {
        match remove(comment.id).await.map_err(Failed::into_inner) {
            Ok(()) | Err(ForgeError::NotFound { .. }) => (comment, created) = (first, false),
            Err(error) => return Err(error),
        }
    }
    if created || same_text(&comment.body, body) {
        return Ok(Stuck { comment, created, updated: false });
    }
    update(comment.id).await.map_err(Failed::into_inner)?;
    Ok(Stuck { comment: CommentInfo { body: body.to_owned(), ..comment }, created: false, updated: true })
}
