//! Every code that a diagnostic may carry. The table makes `docs/reference/diagnostics.md`; each code has a fixture
//! under `tests/scenarios/`.

macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &str = $code;)*
        /// All codes with their meaning in a line, in the order of the reference.
        pub const ALL: &[(&str, &str)] = &[$(($code, $meaning)),*];
    };
}

codes! {
    YAML_SYNTAX = "yaml-syntax", "The file is not YAML.";
    TOO_LARGE = "too-large", "The file is larger than 1 MiB.";
    TOO_DEEP = "too-deep", "Lists and maps are nested more than 64 levels deep.";
    ALIAS_BOMB = "alias-bomb", "Repeated anchors expand to more than a document may hold.";
    DUPLICATE_KEY = "duplicate-key", "A key stands twice in one map.";
    MANY_DOCUMENTS = "many-documents", "The file holds more than one YAML document.";
    BAD_KEY = "bad-key", "A key is a list, a map or nothing.";
    YAML_TAG = "yaml-tag", "A YAML tag asks for a type that there is none of.";
    UNKNOWN_KEY = "unknown-key", "A key that means nothing at its place.";
    WRONG_TYPE = "wrong-type", "A value of another type than its key takes.";
    MISSING_KEY = "missing-key", "A key that has to be there is not.";
    UNKNOWN_VALUE = "unknown-value", "A word that is none of those that its key knows.";
    OUT_OF_RANGE = "out-of-range", "A number outside of what its key takes.";
    EXCLUSIVE_KEYS = "exclusive-keys", "Keys that rule each other out.";
    CONTRADICTORY_QUALITY = "contradictory-quality", "Settings under `quality` that contradict each other or their step.";
    FOREIGN_SYNTAX = "foreign-syntax", "A habit from another CI system that is written otherwise here.";
    BAD_NAME = "bad-name", "A name of a workflow, step, mode, policy, gate or input that cannot be one.";
    NAME_MISMATCH = "name-mismatch", "The name in the file is not the file's name.";
    BAD_DURATION = "bad-duration", "Not a length of time.";
    BAD_SIZE = "bad-size", "Not an amount of memory.";
    BAD_GLOB = "bad-glob", "Not a glob.";
    BAD_CRON = "bad-cron", "Not a cron line of five fields.";
    BAD_TIMEZONE = "bad-timezone", "Not an IANA time zone.";
    BAD_DATE = "bad-date", "Not a day.";
    BAD_URL = "bad-url", "Not a web address.";
    BAD_ADDRESS = "bad-address", "Not an address to listen at, or of a proxy.";
    BAD_PERSON = "bad-person", "Not an account, or not a name with a mail address.";
    BAD_LABEL = "bad-label", "Not a label's or a milestone's name.";
    SIGNED_OFF_BY_NOBODY = "signed-off-by-nobody", "Commits are to be signed off, and nobody's address is known.";
    BAD_STOP = "bad-stop", "Not a termination condition.";
    BAD_SCHEMA = "bad-schema", "Not a JSON Schema.";
    BAD_PATTERN = "bad-pattern", "Not a regular expression, or too large a one.";
    BAD_HISTORY = "bad-history", "Processors of a conversation that repeat or contradict each other.";
    BAD_WEIGHTS = "bad-weights", "Weights of a score that do not come to 1.";
    BAD_DEFAULT = "bad-default", "An input's default is not a value of its type, or a choice has no options.";
    TEMPLATE_SYNTAX = "template-syntax", "Not a minijinja template or expression.";
    UNKNOWN_VARIABLE = "unknown-variable", "A template or expression uses a name that there is not.";
    NOT_AN_ANCESTOR = "not-an-ancestor", "A step refers to a step that does not come before it.";
    TEMPLATED_COMMAND = "templated-command", "A command is templated; values reach it as environment variables.";
    UNKNOWN_MODE = "unknown-mode", "No mode of that name.";
    UNKNOWN_POLICY = "unknown-policy", "No policy of that name.";
    UNKNOWN_GATE = "unknown-gate", "No gate of that name.";
    UNKNOWN_STEP = "unknown-step", "No step of that name.";
    UNKNOWN_TOOL = "unknown-tool", "No tool of that name, or the mode does not offer it.";
    UNKNOWN_SCHEMA = "unknown-schema", "No output schema of that name.";
    UNKNOWN_SCENARIO = "unknown-scenario", "No scenario of that name.";
    UNKNOWN_MODEL = "unknown-model", "No model of that name in the configuration.";
    UNKNOWN_PROMPT = "unknown-prompt", "A mode's prompt file does not exist.";
    NEEDS_CYCLE = "needs-cycle", "Steps wait for each other, or a step waits for itself.";
    UNBOUNDED_GOTO = "unbounded-goto", "A jump without a bound.";
    RETRY_WITHOUT_ATTEMPTS = "retry-without-attempts", "A gate asks for another attempt, and the step has only one.";
    FROM_BASE_WITHOUT_PATHS = "from-base-without-paths", "A gate takes files from the base without saying which.";
    CONCURRENT_WRITERS = "concurrent-writers", "Steps write to one mounted tree at the same time.";
    UNKNOWN_BACKEND = "unknown-backend", "No backend of that name.";
    UNKNOWN_PLACEHOLDER = "unknown-placeholder", "A backend's text holds a placeholder that stands for nothing.";
    PLACEHOLDER_IN_SHELL = "placeholder-in-shell", "A value would become part of a program's text.";
    WRITES_READ_ONLY = "writes-read-only", "A read-only mode or step is given what writes.";
    POISONED_ENV = "poisoned-env", "A variable that changes which programs run or how.";
    OVERRULED_LIMIT = "overruled-limit", "A limit that never holds, because a stricter one does.";
    DOCKER_SOCKET = "docker-socket", "The Docker socket, or a folder that holds it, is mounted.";
    HOST_COMMAND = "host-command", "A command of the host where only data may stand.";
    SECRET_IN_FILE = "secret-in-file", "A secret stands in a file; only references may.";
    RESERVED_POLICY = "reserved-policy", "A built-in policy's name is taken for another one.";
    SHADOWS_BUILT_IN = "shadows-built-in", "A file of the repository takes the place of a built-in one.";
    DUPLICATE_NAME = "duplicate-name", "Two files define the same name.";
    UNKNOWN_FILE = "unknown-file", "A file under .codeforge that nothing reads.";
    EXTENDS_MISSING = "extends-missing", "A file that the configuration extends does not exist.";
    EXTENDS_CYCLE = "extends-cycle", "Configuration files extend each other in a circle.";
    UNMET = "unmet-concurrency", "The CI cannot let runs of this group meet as it says.";
    NOT_YET = "not-yet", "Known, checked, and not carried out by this version.";
    REQUIRED_GATE_MISSING = "required-gate-missing", "The policy requires a gate that is not defined.";
    NO_MODEL = "no-model", "No model is configured for a scenario.";
    UNPRICED_MODEL = "unpriced-model", "A model without a price under a dollar cap, and no token cap.";
    STALE_PRICES = "stale-prices", "A table of prices that is older than half a year.";
    MODEL_PROVIDER = "model-provider", "A model's settings do not fit its provider.";
    STATE_FORGOTTEN = "state-forgotten", "A limit or memory that has to outlive a CI runner, and nothing keeps it.";
    UNKNOWN_REPOSITORY = "unknown-repository", "No repository of that name is served, or two are.";
    RESERVED_COMMAND = "reserved-command", "A command that the program answers itself is given to a workflow.";
    UNKNOWN_COMMAND = "unknown-command", "A short word or free text leads to a command that there is not.";
    UNKNOWN_WORKFLOW = "unknown-workflow", "No workflow of that name.";
    NEVER_FIRES = "never-fires", "What starts a workflow never happens with the CI file that is there.";
    BAD_INPUT = "bad-input", "An input is missing, unknown, or not of its type.";
}
