from services.deployer.main import run

run()
