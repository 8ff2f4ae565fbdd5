"""Settings of an instrument, of the size that long use gives them, as the oldest version of the chain has them."""

import random
import subprocess

CONFIGURATIONS, COMPONENTS, SYNOPTICS, SCREENS = 60, 40, 40, 30
IOCS = ["GALIL", "EUROTHRM", "LKSH218", "DFKPS", "MERCURY_ITC", "JULABO", "LINKAM95", "TPG300", "AG33220A", "KHLY2400", "ILM200", "SKFMB350"]
HEAD = '<?xml version="1.0" ?>\n'


def iocs(some):
    lines = [HEAD, '<iocs xmlns="http://epics.isis.rl.ac.uk/schema/iocs/1.0" xmlns:xi="http://www.w3.org/2001/XInclude">\n']
    for ioc in some.sample(IOCS, 8):
        for number in (1, 2):
            lines.append(f'    <ioc autostart="true" name="{ioc}_{number:02}" restart="true" simlevel="none">\n        <macros>\n')
            lines += [f'            <macro name="{name}" value="COM{some.randrange(60)}"/>\n' for name in ("PORT", "BAUD", "ADDR", "DISABLE_AUTOONOFF", "RANGE")]
            lines.append("        </macros>\n        <pvs/>\n        <pvsets/>\n    </ioc>\n")
    return "".join([*lines, "</iocs>\n"])


def blocks(some):
    lines = [HEAD, '<blocks xmlns="http://epics.isis.rl.ac.uk/schema/blocks/1.0">\n']
    for number in range(30):
        pv = some.choice(["MOT:MTR0101.RBV", "COORD1:NO_OFFSET", "COORD2:RBV:OFFSET", "EUROTHRM_01:A01:TEMP", "CS:SB:FIELD"])
        lines.append(f"    <block>\n        <name>block_{number}</name>\n        <read_pv>{pv}</read_pv>\n        <local>True</local>\n")
        lines.append("        <visible>True</visible>\n        <log_periodic>False</log_periodic>\n        <log_rate>5</log_rate>\n    </block>\n")
    return "".join([*lines, "</blocks>\n"])


def synoptic(some, name):
    lines = [HEAD, f'<instrument xmlns="http://www.isis.stfc.ac.uk//instrument">\n    <name>{name}</name>\n    <components>\n']
    for number in range(25):
        opi = some.choice(["Reflectometry Front Panel", "Eurotherm", "Jaws", "Galil Motor"])
        lines.append(f"        <component>\n            <name>part {number}</name>\n            <type>UNKNOWN</type>\n            <target>\n")
        lines.append(f"                <name>{opi}</name>\n                <type>OPI</type>\n                <properties>\n")
        lines.append(f"                    <property><key>EURO</key><value>{some.choice(IOCS)}_01</value></property>\n")
        lines.append("                </properties>\n            </target>\n            <pvs>\n")
        lines += [f"                <pv><displayname>pv {n}</displayname><address>COORD1:RBV:OFFSET</address></pv>\n" for n in range(4)]
        lines.append("            </pvs>\n        </component>\n")
    return "".join([*lines, "    </components>\n</instrument>\n"])


def screens(some):
    lines = [HEAD, '<devices xmlns="http://epics.isis.rl.ac.uk/schema/screens/1.0">\n']
    for number in range(SCREENS):
        key = some.choice(["Reflectometry Front Panel", "Eurotherm", "Jaws", "Galil Motor"])
        lines.append(f"    <device>\n        <name>screen {number}</name>\n        <key>{key}</key>\n        <type>OPI</type>\n    </device>\n")
    return "".join([*lines, "</devices>\n"])


def dashboard():
    records = []
    for place in ("LEFT", "MIDDLE", "RIGHT"):
        for kind in ("_LCAL", "_VCAL"):
            records.append(f'record(scalcout, "$(P)CS:DASHBOARD:BANNER:{place}:{kind}")\n{{\n    field(CALC, "A==1?BB:CC")\n    field(BB, "Run")\n}}\n')
        records += [f'record(ai, "$(P)CS:DASHBOARD:TAB:{place}:{n}") {{\n    field(INP, "$(P)COORD1:SET:RBV CP MS")\n}}\n' for n in range(30)]
    return "\n".join(records)


def files(seed):
    """Path to text, some 550 files and 2 MB."""
    some = random.Random(seed)
    tree = {
        "config_version.txt": "6.0.0\n",
        "globals.txt": "".join(f"{ioc}_01__PORT=COM{n}\n" for n, ioc in enumerate(IOCS)),
        "dashboard.db": dashboard(),
        "devices/screens.xml": screens(some),
        "motion/axes.cmd": 'dbLoadRecords("$(MOTOREXT)/db/axis.db", "P=$(MYPVPREFIX)MOT:,M=MTR0101")\n' * 40,
    }
    base = {"iocs": f'{HEAD}<iocs>\n    <ioc name="BSKAFKA" autostart="true"/>\n</iocs>\n', "blocks": f"{HEAD}<blocks/>\n", "meta": f"{HEAD}<meta>\n    <description/>\n</meta>\n"}
    tree |= {f"components/_base/{name}.xml": text for name, text in base.items()}
    for folder, count in (("configurations", CONFIGURATIONS), ("components", COMPONENTS)):
        for number in range(count):
            at = f"{folder}/{folder[:-1]}_{number:02}"
            tree[f"{at}/iocs.xml"], tree[f"{at}/blocks.xml"], tree[f"{at}/meta.xml"] = iocs(some), blocks(some), base["meta"]
            tree[f"{at}/groups.xml"] = HEAD + "<groups>\n" + "".join(f'    <group name="g{n}"><block name="block_{n}"/></group>\n' for n in range(10)) + "</groups>\n"
            tree[f"{at}/components.xml"] = f"{HEAD}<components/>\n"
    tree |= {f"synoptics/synoptic_{n}.xml": synoptic(some, f"synoptic_{n}") for n in range(SYNOPTICS)}
    return {f"configurations/{path}": text for path, text in tree.items()}


def write(folder, seed):
    """Writes them into a folder; gives their number and bytes."""
    tree = files(seed)
    for path, text in tree.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return len(tree), sum(len(text) for text in tree.values())


def commit(folder):
    """What is in a work tree, as a commit that its remote has as well."""
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.org", "-C", str(folder)]
    for arguments in (["add", "--all"], ["commit", "--quiet", "--message", "settings of the bench"], ["push", "--quiet", "origin", "HEAD"]):
        subprocess.run([*git, *arguments], check=True)
