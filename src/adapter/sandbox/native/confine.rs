//! Giving up rights, in the order in which each is still possible: limits, bounding set, user, capabilities,
//! Landlock, seccomp. Everything started afterwards inherits all of it.

use super::spec::{Inner, Rights};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Confines this process. Returns what could not be had.
pub(super) fn confine(order: &Inner) -> Result<Vec<String>, String> {
    let mut lacks = Vec::new();
    limits(order, &mut lacks);
    for bit in 0..64 {
        // Bits that the kernel does not know are refused: nothing to drop there.
        if let Some(one) = CapabilitySet::from_bits(1 << bit) {
            let _ = rustix::thread::remove_capability_from_bounding_set(one);
        }
    }
    let _ = rustix::thread::clear_ambient_capability_set();
    if let Rights::Root { user, group } = order.rights {
        let (user, group) = (nix::unistd::Uid::from_raw(user), nix::unistd::Gid::from_raw(group));
        nix::unistd::setgroups(&[])
            .and_then(|()| nix::unistd::setresgid(group, group, group))
            .and_then(|()| nix::unistd::setresuid(user, user, user))
            .map_err(|error| format!("cannot become user {user}: {error}"))?;
    }
    let nothing = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: nothing, permitted: nothing, inheritable: nothing },
    )
    .map_err(|error| format!("cannot drop capabilities: {error}"))?;
    rustix::thread::set_no_new_privs(true).map_err(|error| format!("cannot set no_new_privs: {error}"))?;
    // The command runs as the same user: without this it could look into the first process and take its socket.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| format!("cannot protect the first process: {error}"))?;
    match landlock(order) {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => lacks.push("landlock: this kernel knows only a part of it".into()),
        Ok(RulesetStatus::NotEnforced) => lacks.push("landlock: not in this kernel".into()),
        Err(error) => lacks.push(format!("landlock: {error}")),
    }
    seccomp().map_err(|error| format!("cannot filter system calls: {error}"))?;
    Ok(lacks)
}

fn limits(order: &Inner, lacks: &mut Vec<String>) {
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(4096, |(_, most)| most.min(65_536));
    let mut set = |resource, name: &str, value: u64| {
        let most = getrlimit(resource).map_or(value, |(_, most)| most.min(value));
        if let Err(error) = setrlimit(resource, most, most) {
            lacks.push(format!("limit of {name}: {error}"));
        }
    };
    set(Resource::RLIMIT_CORE, "core files", 0);
    set(Resource::RLIMIT_FSIZE, "file size", order.file_size);
    set(Resource::RLIMIT_NOFILE, "open files", files);
    set(Resource::RLIMIT_MEMLOCK, "locked memory", 64 << 20);
    set(Resource::RLIMIT_MSGQUEUE, "message queues", 819_200);
    if let Some(processes) = order.processes {
        set(Resource::RLIMIT_NPROC, "processes", processes);
    }
    if let Some(data) = order.data {
        set(Resource::RLIMIT_DATA, "memory of a process", data);
    }
}

fn landlock(order: &Inner) -> Result<RulesetStatus, String> {
    let abi = ABI::V5;
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(|error| say(&error))?
        .create()
        .map_err(|error| say(&error))?;
    let read = AccessFs::from_read(abi);
    let write = AccessFs::from_all(abi);
    let device = read | AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::Truncate;
    let mut places = vec![("/", read), ("/tmp", write), ("/home/agent", write), ("/dev", device), ("/dev/shm", write)];
    if order.writable {
        places.push(("/workspace", write));
    }
    for bind in order.binds.iter().filter(|bind| bind.writable) {
        if let Some(path) = bind.to.to_str() {
            places.push((path, write));
        }
    }
    for (path, access) in places {
        let fd = PathFd::new(path).map_err(|error| say(&error))?;
        let is_file = std::path::Path::new(path).is_file();
        let access = if is_file { access & AccessFs::from_file(abi) } else { access };
        rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(|error| say(&error))?;
    }
    rules.restrict_self().map(|status| status.ruleset).map_err(|error| say(&error))
}

/// System calls that no build or test needs and that have let programs out of sandboxes.
const DENIED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_syslog,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
];

/// The filters, made once by the process that waits in a lane: its copies have them.
static FILTERS: LazyLock<Result<[BpfProgram; 2], String>> = LazyLock::new(filters);

/// Makes what is the same for every command.
pub(super) fn prepare() {
    LazyLock::force(&FILTERS);
}

fn seccomp() -> Result<(), String> {
    let filters = FILTERS.as_ref().map_err(String::clone)?;
    filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter)).map_err(|error| error.to_string())
}

fn filters() -> Result<[BpfProgram; 2], String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| say(&error))?;
    let condition = |argument, operator, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).map_err(|error| say(&error))
    };
    let rule = |conditions| SeccompRule::new(conditions).map_err(|error| say(&error));

    let mut denied: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let mut namespaces = Vec::new();
    for flag in [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ] {
        let flag = flag as u32 as u64;
        namespaces.push(rule(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?])?);
    }
    denied.insert(libc::SYS_clone, namespaces);
    // Typing into the terminal of whoever started us.
    let typing = |code: u64| rule(vec![condition(1, SeccompCmpOp::Eq, code)?]);
    denied.insert(libc::SYS_ioctl, vec![typing(libc::TIOCSTI)?, typing(libc::TIOCLINUX)?]);
    // Local, IPv4, IPv6 and route sockets; no packet, vsock, Bluetooth or kernel crypto ones.
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let others =
        families.iter().map(|family| condition(0, SeccompCmpOp::Ne, *family as u64)).collect::<Result<_, _>>()?;
    denied.insert(libc::SYS_socket, vec![rule(others)?]);
    #[cfg(target_arch = "x86_64")]
    {
        // The same calls by their x32 numbers, which a 64-bit program may use where the kernel has that mode.
        const X32: i64 = 0x4000_0000;
        let twins: Vec<_> = denied.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        denied.extend(twins);
        denied.extend((512..548).map(|call| (call | X32, Vec::new())));
    }
    let errno = |code: i32| SeccompAction::Errno(code as u32);
    let filter = |calls, action| {
        SeccompFilter::new(calls, SeccompAction::Allow, action, arch)
            .and_then(BpfProgram::try_from)
            .map_err(|error| say(&error))
    };
    // Its flags lie in memory, where a filter cannot look; libraries fall back to `clone`.
    let hidden = filter([(libc::SYS_clone3, Vec::new())].into(), errno(libc::ENOSYS))?;
    let denied = filter(denied, errno(libc::EPERM))?;
    Ok([hidden, denied])
}
