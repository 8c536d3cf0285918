"""Text commands, seen from a C service."""

from claims import must_contain, must_not_contain, run_claims


def test_every_command_does_what_it_says():
    text = run_claims("t_commands")
    must_contain(
        text,
        "[:00000002] error: Can't register global name global in C",
        "[:00000002] error: Can't set global name galaxy in C",
        "[:00000002] error: Can't setenv exist key : k",
        "[:00000002] error: Can't convert foo to handle",
        "[:00000002] error: Can't convert nonsense to handle",
        "[:00000002] KILL :1234",
        "[:00000002] LAUNCH t_commands \n")


def test_every_command_works_with_one_worker():
    run_claims("t_commands", "thread = 1")


def test_failed_launches_say_why():
    text = run_claims("t_commands")
    must_contain(
        text,
        "try open nosuchmodule failed : ",
        "nosuchmodule.so: cannot open shared object file",
        "[:00000000] error: module t_noinit has no init function",
        "[:00000000] error: module t_nullcreate failed to create an instance")
    must_not_contain(text, "must not be called")


def test_launch_is_logged_with_module_and_argument():
    text = run_claims("t_commands")
    must_contain(text, "] LAUNCH t_probe \n", "] LAUNCH t_probe  a b\n", "] LAUNCH t_probe x y\n")
    must_not_contain(text, "LAUNCH logger")


def test_cpu_is_not_measured_when_profiling_is_off():
    run_claims("t_noprofile", "profile = 1")  # only `true` switches it on
