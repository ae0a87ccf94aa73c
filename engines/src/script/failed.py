# Shows why a script failed, without the frames of what called it: they say nothing to whoever wrote the script.
import io, sys


def show(error):
    trace = io.StringIO()
    sys.print_exception(error, trace)
    sys.stderr.write("\n".join(line for line in trace.getvalue().split("\n") if '"/timerose/' not in line))
    sys.exit(1)
