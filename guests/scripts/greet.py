# The function of TimeRose's first demonstration (2021), where it ran as a Lambda in Docker.
#
# timerose run guests/scripts/greet.py --arg '{"name": "Ann"}'


def handler(event, context):
    name = event.get("name", "world") if isinstance(event, dict) else str(event)
    print("greeting", name)
    return {"statusCode": 200, "body": "Hello, " + name + "!"}
