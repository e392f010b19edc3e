"""A framework on pymesos: starts a web server on an overlay for each agent it is told.

    framework.py MASTER NETWORK AGENT...

It prints a line of JSON for each status, and ends with its standard input.
"""

import json
import sys

from pymesos import MesosSchedulerDriver, Scheduler


class Servers(Scheduler):
    def __init__(self, network, agents):
        self.network = network
        self.waiting = set(agents)

    def resourceOffers(self, driver, offers):
        for offer in offers:
            if offer["hostname"] not in self.waiting:
                driver.declineOffer(offer["id"])
                continue
            self.waiting.remove(offer["hostname"])
            driver.launchTasks(offer["id"], [self.task(offer)])

    def task(self, offer):
        scalar = lambda name, value: {"name": name, "type": "SCALAR", "scalar": {"value": value}}
        return {
            "name": "server",
            "task_id": {"value": "server-" + offer["hostname"]},
            "agent_id": offer["agent_id"],
            "resources": [scalar("cpus", 0.1), scalar("mem", 64)],
            "command": {"value": "exec python3 -m http.server 8080"},
            "container": {"type": "MESOS", "network_infos": [{"name": self.network}]},
        }

    def statusUpdate(self, driver, update):
        infos = update.get("container_status", {}).get("network_infos", [])
        addresses = [ip["ip_address"] for info in infos for ip in info.get("ip_addresses", [])]
        status = {
            "task": update["task_id"]["value"],
            "state": update["state"],
            "message": update.get("message", ""),
            "addresses": addresses,
        }
        print(json.dumps(status), flush=True)


master, network, *agents = sys.argv[1:]
driver = MesosSchedulerDriver(
    Servers(network, agents), {"user": "root", "name": "pymesos"}, master
)
driver.start()
sys.stdin.read()
driver.stop()
driver.join()
