from services.flags.main import run

run()
