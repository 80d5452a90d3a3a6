"""Asynchronous agents: tasks, timers, and what is left of them at the end of a turn."""

import time

from .stage import Stage, places

HANDLER = "import asyncio\nfrom bulkhead import *\n@agent\nasync def mayor(ctx, message):\n"


class Loop(Stage):
    def kinds(self) -> list[str]:
        return [exceptions[0].kind for exceptions in self.unhandled]

    def warnings(self) -> list[str]:
        return [message for level, message, _ in self.lines if level == "warn"]

    def test_sleeps_run_side_by_side(self) -> None:
        nap = "said = ''\nasync def nap(c):\n    global said\n    said += c\n    await asyncio.sleep(0.01)\n    said += c.upper()\n"
        reply = self.play(HANDLER + "    await asyncio.gather(*map(nap, 'abc'))\n    return said\n" + nap)
        self.assertEqual((reply[:3], sorted(reply[3:])), ("abc", ["A", "B", "C"]), "all begin before one ends")

    def test_a_timeout_ends_a_wait(self) -> None:
        self.start(HANDLER + "    async with asyncio.timeout(0.01):\n        await asyncio.Event().wait()\n")
        self.assertEqual(self.refused(self.send).exceptions[0].kind, "TimeoutError")

    def test_an_exception_of_a_turn_has_the_frames_of_its_coroutines(self) -> None:
        self.start(HANDLER + "    await fail()\nasync def fail():\n    await asyncio.sleep(0)\n    raise OSError\n")
        self.assertEqual(places(self.refused(self.send).exceptions[0]), [("fail", "agent.py", 8), ("mayor", "agent.py", 5)])

    def test_a_failed_task_that_nobody_awaits_is_reported(self) -> None:
        fail = "async def fail():\n    raise KeyError('x')\n"
        self.assertEqual(self.play(HANDLER + "    task = asyncio.create_task(fail())\n    await asyncio.sleep(0)\n    return 'ok'\n" + fail), "ok")
        self.assertEqual(self.kinds(), ["KeyError"])
        self.assertEqual(places(self.unhandled[0][0]), [("fail", "agent.py", 9)])

    def test_a_failed_task_that_is_still_held_is_reported(self) -> None:
        self.play(HANDLER + "    ctx.kept = asyncio.create_task(fail())\n    await asyncio.sleep(0)\nasync def fail():\n    raise KeyError\n")
        self.assertEqual(self.kinds(), ["KeyError"])

    def test_a_failed_task_that_is_awaited_is_not_reported(self) -> None:
        body = "    task = asyncio.create_task(fail())\n    try:\n        await task\n    except KeyError:\n        return 'caught'\n"
        self.assertEqual(self.play(HANDLER + body + "async def fail():\n    raise KeyError\n"), "caught")
        self.assertEqual(self.unhandled, [])

    def test_a_coroutine_that_is_never_awaited_is_reported_where_it_was_made(self) -> None:
        self.play(HANDLER + "    lost()\nasync def lost():\n    pass\n")
        self.assertEqual(self.kinds(), ["RuntimeWarning"])
        self.assertEqual(places(self.unhandled[0][0])[0], ("mayor", "agent.py", 5))

    def test_a_callback_that_raises_is_reported(self) -> None:
        self.play(HANDLER + "    asyncio.get_running_loop().call_soon(lambda: {}['x'])\n    await asyncio.sleep(0)\n")
        self.assertEqual(self.kinds(), ["KeyError"])

    def test_tasks_and_timers_that_are_left_are_cancelled_and_counted(self) -> None:
        body = "    asyncio.create_task(tick(), name='tick')\n    asyncio.get_running_loop().call_later(9, print)\n    return 'ok'\n"
        tick = "async def tick():\n    try:\n        await asyncio.sleep(9)\n    finally:\n        print(end='')\n"
        self.assertEqual(self.play(HANDLER + body + tick), "ok")
        self.assertEqual(self.warnings(), ["1 tasks and 1 timers were left at the end of the turn, and were cancelled"])
        self.assertEqual(self.lines[-1][2], [("tasks", "tick")])
        self.lines.clear()
        self.assertEqual(self.send().reply, "ok")
        self.assertEqual(len(self.warnings()), 1, "nothing of the turn before is there")

    def test_a_task_that_ignores_its_cancellation_does_not_go_on(self) -> None:
        begin = "    if message.text == 'begin':\n        asyncio.create_task(stubborn())\n        while len(rounds) < 3: await asyncio.sleep(0.01)\n"
        # Longer than a round: of two timers the earlier one is first.
        body = begin + "    await asyncio.sleep(0.02)\n    return str(len(rounds))\n"
        for pause in (0, 0.01):
            with self.subTest(pause):
                self._forget()
                self.lines.clear()
                stubborn = ("rounds = []\nasync def stubborn():\n    while True:\n        rounds.append(1)\n        try:\n"
                            f"            await asyncio.sleep({pause})\n        except asyncio.CancelledError:\n            pass\n")
                self.assertGreater(int(self.play(HANDLER + body + stubborn, "begin")), 2)
                self.assertEqual(len(self.warnings()), 1)
                self.assertEqual(self.send("look").reply, self.send("look").reply)

    def test_wait_until_is_awaited(self) -> None:
        later = "async def later(ctx):\n    await asyncio.sleep(0.05)\n    ctx.emit('later', 1)\n"
        self.assertEqual(self.play(HANDLER + "    ctx.wait_until(later(ctx))\n    return 'ok'\n" + later), "ok")
        self.assertEqual(self.events, [("later", "1")])
        self.assertEqual(self.warnings(), [])

    def test_wait_until_works_in_a_plain_function(self) -> None:
        text = "import asyncio\nfrom bulkhead import *\n@agent\ndef mayor(ctx, message):\n    ctx.wait_until(later(ctx))\n    return 'ok'\n"
        self.play(text + "async def later(ctx):\n    await asyncio.sleep(0.01)\n    ctx.emit('later')\n")
        self.assertEqual(self.events, [("later", "null")])

    def test_wait_until_has_the_time_of_the_turn(self) -> None:
        self.deadline_ms = 550
        before = time.monotonic()
        self.play(HANDLER + "    ctx.wait_until(asyncio.sleep(20))\n")
        self.assertLess(time.monotonic() - before, 5)
        self.assertEqual(len(self.warnings()), 1)

    def test_a_failure_of_wait_until_is_reported(self) -> None:
        self.play(HANDLER + "    ctx.wait_until(fail())\nasync def fail():\n    raise KeyError('x')\n")
        self.assertEqual(self.kinds(), ["KeyError"])

    def test_a_wait_that_nothing_can_end_is_an_exception_at_its_place(self) -> None:
        self.start(HANDLER + "    await asyncio.Event().wait()\n")
        [exception] = self.refused(self.send).exceptions
        self.assertEqual((exception.kind, places(exception)), ("Stuck", [("mayor", "agent.py", 5)]))

    def test_a_lock_of_one_turn_is_a_lock_of_the_next(self) -> None:
        self.start(HANDLER + "    async with lock:\n        await asyncio.gather(use(), use())\n    return 'ok'\n"
                             "lock = asyncio.Lock()\nother = asyncio.Lock()\nasync def use():\n    async with other:\n        await asyncio.sleep(0)\n")
        self.assertEqual([self.send().reply, self.send().reply], ["ok", "ok"])

    def test_asyncio_run_works_in_a_plain_function(self) -> None:
        text = "import asyncio\nfrom bulkhead import *\n@agent\ndef mayor(ctx, message):\n    return asyncio.run(asyncio.sleep(0.01, 'x'))\n"
        self.assertEqual(self.play(text), "x")

    def test_a_function_for_a_thread_runs_in_place(self) -> None:
        self.assertEqual(self.play(HANDLER + "    return await asyncio.to_thread(lambda: 'x')\n"), "x")

    def test_hooks_may_be_asynchronous(self) -> None:
        self.start("from bulkhead import *\n@start\nasync def begin(ctx):\n    ctx.emit('begun', ctx.me.id)\n@agent\ndef mayor(ctx, message):\n    pass\n")
        self.assertEqual(self.events, [("begun", '"a"')])
