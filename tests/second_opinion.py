"""Calls the sandbox's Lightsail with botocore and holds each raw reply against botocore's own service model."""

import json
import time

import botocore.session

session = botocore.session.get_session()
client = session.create_client("lightsail")
bad = []


def walk(shape, value, at):
    kind = shape.type_name
    if kind == "structure":
        for name, inner in value.items():
            if name not in shape.members:
                bad.append(f"{at}.{name} is not in the model")
            else:
                walk(shape.members[name], inner, f"{at}.{name}")
    elif kind == "list":
        for index, inner in enumerate(value):
            walk(shape.member, inner, f"{at}[{index}]")
    elif kind == "string":
        if not isinstance(value, str) or (getattr(shape, "enum", None) and value not in shape.enum):
            bad.append(f"{at}: {value!r}")
    elif kind == "boolean" and not isinstance(value, bool):
        bad.append(f"{at}: {value!r} is no boolean")
    elif kind in ("integer", "long") and not isinstance(value, int):
        bad.append(f"{at}: {value!r} is no integer")
    elif kind in ("timestamp", "float", "double") and not isinstance(value, (int, float)):
        bad.append(f"{at}: {value!r} is no number")


def look(http_response, model):
    if http_response.status_code == 200:
        walk(model.output_shape, json.loads(http_response.content), model.name)


# botocore drops unknown members when it parses, so the raw answer is looked at, where it comes in.
make = client._endpoint.make_request


def recording(model, request):
    http, parsed = make(model, request)
    look(http, model)
    return http, parsed


client._endpoint.make_request = recording


def wait(state):
    limit = time.monotonic() + 20
    while client.get_instance_state(instanceName="opinion")["state"]["name"] != state:
        if time.monotonic() > limit:
            raise SystemExit(f"never {state}")
        time.sleep(0.05)


client.get_bundles(includeInactive=True)
client.get_blueprints()
client.get_regions(includeAvailabilityZones=True)
pair = client.create_key_pair(keyPairName="opinion-key")
assert pair["privateKeyBase64"].startswith("-----BEGIN")
client.get_key_pair(keyPairName="opinion-key")
client.get_key_pairs()
client.create_instances(
    instanceNames=["opinion"], availabilityZone="ca-central-1a", blueprintId="debian_12", bundleId="small_3_0",
    keyPairName="opinion-key", tags=[{"key": "a", "value": "b"}],
    addOns=[{"addOnType": "AutoSnapshot", "autoSnapshotAddOnRequest": {"snapshotTimeOfDay": "07:00"}}],
)
wait("running")
client.delete_key_pair(keyPairName="opinion-key")
client.get_instance(instanceName="opinion")
client.get_instances()
client.update_instance_metadata_options(instanceName="opinion", httpTokens="required")
client.get_auto_snapshots(resourceName="opinion")
client.disable_add_on(addOnType="AutoSnapshot", resourceName="opinion")
client.enable_add_on(resourceName="opinion", addOnRequest={"addOnType": "AutoSnapshot"})
client.allocate_static_ip(staticIpName="opinion-ip")
client.attach_static_ip(staticIpName="opinion-ip", instanceName="opinion")
client.get_static_ip(staticIpName="opinion-ip")
client.get_static_ips()
rule = {"fromPort": 5432, "toPort": 5432, "protocol": "tcp"}
client.open_instance_public_ports(instanceName="opinion", portInfo=rule)
client.close_instance_public_ports(instanceName="opinion", portInfo=rule)
client.put_instance_public_ports(instanceName="opinion", portInfos=[rule])
client.get_instance_port_states(instanceName="opinion")
client.tag_resource(resourceName="opinion", tags=[{"key": "c", "value": "d"}])
client.untag_resource(resourceName="opinion", tagKeys=["c"])
client.get_instance_access_details(instanceName="opinion")
client.delete_known_host_keys(instanceName="opinion")
client.create_instance_snapshot(instanceSnapshotName="opinion-1", instanceName="opinion")
client.get_instance_snapshot(instanceSnapshotName="opinion-1")
client.get_instance_snapshots()
client.delete_instance_snapshot(instanceSnapshotName="opinion-1")
client.put_alarm(
    alarmName="opinion-cpu", metricName="CPUUtilization", monitoredResourceName="opinion",
    comparisonOperator="GreaterThanThreshold", threshold=80, evaluationPeriods=2,
)
client.get_alarms()
client.delete_alarm(alarmName="opinion-cpu")
client.reboot_instance(instanceName="opinion")
client.stop_instance(instanceName="opinion")
wait("stopped")
client.start_instance(instanceName="opinion")
wait("running")
client.detach_static_ip(staticIpName="opinion-ip")
client.release_static_ip(staticIpName="opinion-ip")
operations = client.get_operations()["operations"]
client.get_operation(operationId=operations[0]["id"])
client.get_operations_for_resource(resourceName="opinion")
client.delete_instance(instanceName="opinion", forceDeleteAddOns=True)
if bad:
    raise SystemExit("\n".join(sorted(set(bad))))
