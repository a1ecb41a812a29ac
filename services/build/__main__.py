from services.build.main import run

run()
