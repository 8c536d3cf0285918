"""Services that went quiet have their garbage collected by idle workers."""

from harness import VARIANT, Node, Skip
from test_idle import wait_for_rest


def play(scene, config="idle_gc = 0.1\n"):
    return Node(f'start = "quiet_scene {scene}"\n{config}')


def expect(scene, config="idle_gc = 0.1\n"):
    with play(scene, config) as node:
        node.wait_for(rf"scene {scene} ok")
        assert node.stop() == 0


def test_many_quiet_services_keep_no_garbage():
    expect("many")


def test_many_with_one_worker():
    expect("many", "idle_gc = 0.1\nthread = 1\n")


def test_a_large_heap_is_collected_in_steps_and_its_pages_go_back():
    if VARIANT in ("asan", "tsan"):
        raise Skip("this build does not account for memory")
    expect("large")


def test_a_heap_that_stays_large_loses_its_garbage():
    expect("alive")


def test_finalizers_run_in_the_quiet_service():
    with play("finalizer") as node:
        node.wait_for(r"^\[:\w{8}\] finalizer ran$")
        assert node.stop() == 0


def test_a_stopped_collector_stays_stopped():
    expect("stopped")


def test_a_busy_worker_collects_for_nobody():
    expect("busy", "idle_gc = 0.05\nthread = 1\n")


def test_it_can_be_switched_off():
    if VARIANT != "release":
        raise Skip("sanitizers have threads of their own")
    with Node('start = "quiet_scene finalizer"\nidle_gc = 0\n') as node:
        node.wait_for("scene finalizer ok")
        wait_for_rest(node.proc.pid)
        assert "finalizer ran" not in node.text, node.text
        assert node.stop() == 0


def test_bad_settings_are_refused():
    with Node('start = "quiet_scene finalizer"\nidle_gc = "never"\n') as node:
        assert node.wait_exit() == 1
        assert "idle_gc" in node.text, node.text
