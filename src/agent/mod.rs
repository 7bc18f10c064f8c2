//! One agent's conversation: prompt, tools offered, history, parsing of answers.
